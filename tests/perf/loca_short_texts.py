"""Measures training steps with few tokens: LoCA by transforms of the tokens against LoCA that builds its update.

    python -m tests.perf.loca_short_texts [--rounds 40] [--threads 1] [--precision bfloat16]

A round is one step of each variant on one block, in an order that alternates, so that other load on the machine meets
all of them. Ratios and differences are those of a round. Time is the processor's, or with several threads wall time.
In bfloat16 forward passes run under autocast, over weights in float32 (``train.precision=bfloat16``) or, by
``--weights bfloat16``, in 16 bits, beside which no update is built: then the way does not matter.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from parbench.methods.spectral.spectrum import SparseSpectrum
from tests.perf.loca_variants import SHAPES, Trained, spread

# Shape, sequences, tokens of a sequence: sentences and digits of the mini suite, and RoBERTa's.
BATCHES = (
    ("minilm", 16, 17),
    ("minilm", 16, 27),
    ("minilm", 16, 64),
    ("roberta-base", 32, 27),
    ("roberta-base", 8, 128),
)
# Whether tokens are transformed; None where there is no choice.
WAYS: dict[str, tuple[str, bool | None]] = {
    "floor": ("floor", None),
    "lora": ("lora", None),
    "loca, update built": ("loca, rebuilt", False),
    "loca, tokens transformed": ("loca, rebuilt", True),
}


@contextmanager
def forced(by_tokens: bool | None) -> Iterator[None]:
    """Overrule `SparseSpectrum.transforms_tokens`."""
    rule = SparseSpectrum.transforms_tokens
    if by_tokens is not None:
        SparseSpectrum.transforms_tokens = lambda *args: by_tokens  # type: ignore[assignment]
    try:
        yield
    finally:
        SparseSpectrum.transforms_tokens = rule  # type: ignore[method-assign]


def times(
    shape: str, batch: int, length: int, rounds: int, precision: torch.dtype, weights: torch.dtype
) -> dict[str, list[float]]:
    """Return the milliseconds of one step of each way, in each of the rounds."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    trained = {way: Trained(variant, SHAPES[shape].base(1).to(weights)) for way, (variant, _) in WAYS.items()}
    inputs = torch.randn(batch, length, SHAPES[shape].width).to(precision)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 2):
        for way in list(WAYS)[:: 1 if number % 2 else -1]:
            with forced(WAYS[way][1]):
                start = clock()
                trained[way].step(inputs)
                taken = 1000 * (clock() - start)
            if number > 1:  # the first two warm up
                found[way].append(taken)
    return found


def main() -> None:
    """Print a row per shape and variant as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    for name in ("--precision", "--weights"):
        parser.add_argument(name, choices=("float32", "bfloat16"), default="float32")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    precision, weights = getattr(torch, asked.precision), getattr(torch, asked.weights)
    print("| shape | tokens | variant | ms | of LoRA | ms above the floor, per layer |\n|---|---|---|---|---|---|")
    for shape, batch, length in BATCHES:
        found = times(shape, batch, length, asked.rounds, precision, weights)
        for way, values in found.items():
            ratios = [value / lora for value, lora in zip(values, found["lora"], strict=True)]
            # Query and value.
            above = [(value - floor) / 2 for value, floor in zip(values, found["floor"], strict=True)]
            cells = (f"{statistics.median(values):.1f}", spread(ratios), spread(above, "{:.2f}"))
            print(f"| {shape} | {batch} x {length} | {way} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
