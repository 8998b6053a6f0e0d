"""How long a training step takes with LoCA, LoRA and FourierFT: ``python -m tests.perf.loca_benchmark --help``.

Every variant adapts the query and value projections of an encoder in the shape of RoBERTa-base with random weights, and
takes whole training steps: forward, backward down to the inputs of the first block, AdamW. The *floor* is the frozen
encoder's forward pass and gradient of the inputs, which no method can avoid. One round is one step of each variant, so
that other load on the machine affects all of them; time is processor time, or wall time with several threads.
With ``--device cuda`` it is the accelerator's, and a decoder in the shape of LLaMA-7B is measured too: see
`tests.perf.loca_on_device`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.perf.loca_on_device import report
from tests.perf.loca_variants import FREQUENCIES, LENGTH, RANK, SHAPES, VARIANTS, WIDTH, Trained, spread

MEMORY_VARIANTS = (
    "lora",
    "loca dense",
    "loca, rebuilt",
    "loca, kept",
    "fourierft",
    "fourierft fast, rebuilt",
    "fourierft fast, kept",
)


def times(variants: Sequence[str], layers: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of one step of each variant, in each of the rounds: processor time, or with several threads wall time."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    trained = {variant: Trained(variant, SHAPES["roberta-base"].base(layers)) for variant in variants}
    inputs = torch.randn(batch, LENGTH, WIDTH)
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for variant, one in trained.items():
            start = clock()
            one.step(inputs)
            if number:  # the first warms up
                seconds[variant].append(clock() - start)
    return seconds


def time_table(seconds: dict[str, list[float]]) -> str:
    """The times as Markdown; ratios and differences are those of a round."""
    lines = ["| variant | ms | of LoRA | ms above the floor |", "|---|---|---|---|"]
    for variant, values in seconds.items():
        ratios = [value / lora for value, lora in zip(values, seconds["lora"], strict=True)]
        above = [1000 * (value - floor) for value, floor in zip(values, seconds["floor"], strict=True)]
        milliseconds = [1000 * value for value in values]
        cells = (variant, spread(milliseconds, "{:.0f}"), spread(ratios), spread(above, "{:.0f}"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Work:
    """What one adapted layer adds to a step, in arithmetic operations and in bytes read and written."""

    operations: float
    bytes: float

    def row(self, name: str) -> str:
        """One line of Markdown."""
        return f"| {name} | {self.operations / 1e6:.0f} | {self.bytes / 1e6:.1f} |"


def work(tokens: int) -> dict[str, Work]:
    """The work of the variants above the floor on one ``WIDTH x WIDTH`` layer in float32, counted, not measured.

    Every tensor that an operation takes or gives counts once as read or written, although some stay in a cache. A
    product of matrices has two operations for each multiply-add, a real FFT of ``N`` numbers ``2.5 N log2 N``. Of LoRA:
    six thin products, a scaling and an addition in the forward pass, a scaling and an addition in the backward pass.
    """
    weight, activation, entries = WIDTH * WIDTH, tokens * WIDTH, FREQUENCIES
    fft = 2.5 * math.log2(WIDTH)
    # Zeros, and an FFT and a permutation along both sides; a spectrum of real numbers has as many real numbers.
    transform = Work(2 * weight * fft, 9 * weight)
    store, fold = Work(0, 2 * weight), Work(weight, 3 * weight)
    product = Work(2 * tokens * weight, 2 * activation + weight)
    # Permutation, FFT and factors of `x` and of the gradient of the output, then two gathers, a product and a sum.
    sampled = Work(2 * activation * (fft + 3) + 2 * tokens * entries, 2 * 6 * activation + 8 * tokens * entries)
    dense_transform = Work(4 * WIDTH * weight, 7 * weight)
    total: dict[str, list[tuple[int, Work]]] = {
        "lora": [(1, Work(12 * activation * RANK, 17 * activation))],
        # Forward: build, product, addition. Backward: build, product, addition, G and its transform.
        "loca dense": [(3, dense_transform), (3, product), (2, Work(activation, 3 * activation))],
        "loca, kept": [(1, transform), (1, store), (2, fold), (1, sampled)],
        "loca, rebuilt": [(2, transform), (2, fold), (1, sampled)],
    }
    return {
        name: Work(sum(n * w.operations for n, w in parts), 4 * sum(n * w.bytes for n, w in parts))
        for name, parts in total.items()
    }


def work_table(tokens: int) -> str:
    """`work` as Markdown."""
    lines = ["| one layer, above the floor | million operations | MB |", "|---|---|---|"]
    layer = Work(4 * tokens * WIDTH * WIDTH, 4 * 2 * (2 * tokens * WIDTH + WIDTH * WIDTH))
    lines += [layer.row("(the floor itself)"), *(one.row(name) for name, one in work(tokens).items())]
    return "\n".join(lines)


def peak_memory(variant: str, layers: int, batch: int) -> int:
    """Most bytes held at a time by tensors over two steps, the encoder with its 50,265 words included.

    Call it in a process of its own: the profiler counts from where it was in an earlier run.
    """
    torch.set_num_threads(1)
    inputs = torch.randn(batch, LENGTH, WIDTH)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        one = Trained(variant, SHAPES["roberta-base"].base(layers, words=50265))
        for _ in range(2):
            one.step(inputs)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events: list[dict[str, Any]] = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")


def memory_table(variants: Sequence[str], layers: int, batch: int) -> str:
    """Peak memory of the variants, each in a process of its own, as Markdown."""
    lines, context = ["| variant | peak MiB | of LoRA |", "|---|---|---|"], multiprocessing.get_context("spawn")
    peaks: dict[str, int] = {}
    for variant in variants:
        with context.Pool(1) as pool:
            peaks[variant] = pool.apply(peak_memory, (variant, layers, batch))
        lines.append(f"| {variant} | {peaks[variant] / 2**20:.0f} | {peaks[variant] / peaks['lora']:.3f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write Markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.loca_benchmark", description="Measure training steps.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--shape", choices=SHAPES, help="measure this one as on an accelerator (there default: all but tiny)"
    )
    parser.add_argument("--layers", type=int, help="blocks of the encoder (default: 4; on an accelerator all)")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32], help="sequences of 128 tokens in a step")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each variant (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.shape or chosen.device != "cpu":
        names = [chosen.shape] if chosen.shape else [name for name in SHAPES if name != "tiny"]
        for name in names:
            for part in report(name, torch.device(chosen.device), chosen.rounds, chosen.layers):
                sys.stdout.write(part + "\n")
                sys.stdout.flush()
        return
    layers = chosen.layers or 4
    for batch in chosen.batches:
        title = f"\n{layers} blocks, {batch} x {LENGTH} tokens, torch {torch.__version__}\n\n"
        if chosen.memory:
            table = memory_table(MEMORY_VARIANTS, layers, batch)
        else:
            seconds = times(list(VARIANTS), layers, batch, chosen.rounds)
            table = time_table(seconds) + "\n\n" + work_table(batch * LENGTH)
        sys.stdout.write(title + table + "\n")


if __name__ == "__main__":
    main()
