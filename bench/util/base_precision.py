"""How a run holds the frozen weights of its base model: in full precision, in 16 bits, or quantised.

These are names and sentences only; `parbench.methods.quantisation` converts a model.
"""

from __future__ import annotations

from typing import Literal, get_args

BasePrecision = Literal["float32", "bfloat16", "int8", "nf4"]

FLOAT32: BasePrecision = "float32"
PRECISIONS: tuple[BasePrecision, ...] = get_args(BasePrecision)
QUANTISED: tuple[BasePrecision, ...] = ("int8", "nf4")

_KEPT = "task head, vocabulary matrices, norms and biases stay in float32"
DESCRIPTIONS: dict[BasePrecision, str] = {
    "float32": "all weights in float32",
    "bfloat16": (
        "all weights of the base model rounded to bfloat16, in which it also computes; the task head stays in float32"
    ),
    "int8": (
        "linear layers in 8 bits by LLM.int8() of bitsandbytes, one scale per output row; on accelerators inputs are "
        f"quantised as well, outliers from 6.0 on apart; {_KEPT}"
    ),
    "nf4": (
        "linear layers in 4 bits as in QLoRA, by bitsandbytes: NF4 in blocks of 64 with double quantisation, products "
        f"in bfloat16; {_KEPT}"
    ),
}
