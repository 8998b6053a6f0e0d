"""The methods: ways to fine-tune few parameters. Each can be used alone, without the rest of parbench."""

from __future__ import annotations

if not __name__.startswith("parbench."):
    raise ImportError('this folder is imported as "parbench.methods", not as "methods"')

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from parbench.bench.util.registry import Entry, Registry

if TYPE_CHECKING:
    from parbench.methods.base import Method
    from parbench.methods.expression import ResolvedMethod


def _of_peft() -> Iterator[Entry[Method[Any]]]:
    from parbench.methods.from_peft.discover import discovered

    return discovered()


METHODS: Registry[Method[Any]] = Registry(
    "method", entry_point_group="parbench.methods", base="parbench.methods.base:Method", discover=_of_peft
)
METHODS.register("lora", "parbench.methods.lora:LORA", "Low-rank adaptation (Hu et al., 2021)")
METHODS.register("dora", "parbench.methods.dora:DORA", "Weight-decomposed low-rank adaptation (Liu et al., 2024)")
METHODS.register(
    "adalora", "parbench.methods.adalora.method:ADALORA", "LoRA with an adaptive rank budget (Zhang et al., 2023)"
)
METHODS.register("fourierft", "parbench.methods.fourierft:FOURIERFT", "Sparse Fourier spectrum (Gao et al., 2024)")
METHODS.register(
    "fourierft_fast",
    "parbench.methods.fourierft_fast.method:FOURIERFT_FAST",
    "FourierFT at a fraction of its cost, the same numbers (Gao et al., 2024)",
)
METHODS.register("vera", "parbench.methods.vera:VERA", "Vector-based random matrix adaptation (Kopiczko et al., 2024)")
METHODS.register("loca", "parbench.methods.loca.method:LOCA", "Location-aware cosine adaptation (Du et al., 2025)")
METHODS.register(
    "replora", "parbench.methods.replora.method:REPLORA", "LoRA from small generators (Truong et al., 2025)"
)
METHODS.register(
    "lora_gen",
    "parbench.methods.lora_gen.method:LORA_GEN",
    "LoRA made by a cloud model from a system prompt (Xiao et al., 2025)",
)
METHODS.register("full", "parbench.methods.selective:FULL", "Full fine-tuning")
METHODS.register("bitfit", "parbench.methods.selective:BITFIT", "Bias terms only (Ben Zaken et al., 2022)")
METHODS.register("linear_probe", "parbench.methods.selective:LINEAR_PROBE", "Task head only")


def find_method(expression: str) -> ResolvedMethod:
    """Return the method that an expression names, for example ``lora``, ``lora(r=4)`` or ``dora+qv_ratio(8)``.

    See `parbench.methods.expression` for the grammar.

    Raises:
        UserError: there is no such method, option or modifier, or they do not go together.
    """
    from parbench.methods.expression import parse

    return parse(expression)
