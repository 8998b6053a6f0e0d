"""How long a training step takes with LoCA, LoRA and FourierFT: ``python -m methods.loca.benchmark --help``.

Every variant adapts the query and value projections of an encoder in the shape of RoBERTa-base with random weights, and
takes whole training steps: forward, backward down to the inputs of the first block, AdamW. The *floor* is the frozen
encoder's forward pass and gradient of the inputs, which no method can avoid. One round is one step of each variant, so
that other work on the machine slows all alike; time is that of the processor, or with several threads that of the wall.
With ``--device cuda`` it is the accelerator's, and a decoder in the shape of LLaMA-7B is measured too: see
`parbench.methods.loca.benchmark_on_device`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import FourierFTConfig, LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, RobertaConfig, RobertaModel

from parbench.methods.fourierft_fast import compute_fast
from parbench.methods.loca.config import LocaConfig
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS, LocaLayer
from parbench.methods.loca.reference import DenseLinear, RankProductLinear, use_reference

# As RoBERTa and Llama call them.
TARGETS = ["query", "value", "q_proj", "v_proj"]
FREQUENCIES = 1000
RANK = 8
WIDTH = 768
LENGTH = 128


@dataclass(frozen=True)
class Shape:
    """A stack of blocks that is fed with hidden states.

    Attributes:
        width: of the hidden states.
        length: tokens of a sequence.
        batch: sequences of a step.
        blocks: of the whole model.
        dtypes: of the frozen weights, each measured; with 16 bits forward passes run under autocast.
        make: the model of so many blocks, for so many words.
    """

    width: int
    length: int
    batch: int
    blocks: int
    dtypes: tuple[torch.dtype, ...]
    make: Callable[[int, int], nn.Module]

    def base(self, blocks: int, words: int = 8) -> nn.Module:
        """Return so many of the blocks, frozen, with random weights and a vocabulary of so many words."""
        torch.manual_seed(0)
        return self.make(blocks, words).requires_grad_(False)


def _roberta(blocks: int, words: int) -> nn.Module:
    config = RobertaConfig(vocab_size=words, num_hidden_layers=blocks, max_position_embeddings=514, type_vocab_size=1)
    return RobertaModel(config, add_pooling_layer=False)


def _llama(width: int, inner: int, heads: int, blocks: int, words: int) -> nn.Module:
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return LlamaModel(config)


SHAPES = {
    "roberta-base": Shape(WIDTH, LENGTH, 32, 12, (torch.float32, torch.bfloat16), _roberta),
    "llama-7b": Shape(4096, 512, 4, 32, (torch.bfloat16,), partial(_llama, 4096, 11008, 32)),
    # To try the path.
    "tiny": Shape(32, 8, 2, 1, (torch.float32, torch.bfloat16), partial(_llama, 32, 64, 2)),
}


def lora(base: nn.Module) -> nn.Module:
    """peft's LoRA."""
    return get_peft_model(base, LoraConfig(r=RANK, target_modules=TARGETS))


def loca(
    base: nn.Module,
    frozen: str = LOCATIONS,
    layer_type: type[RankProductLinear] | None = None,
    keep_update: bool = False,
) -> nn.Module:
    """LoCA in one of its two phases: locations, or coefficients, are frozen."""
    config = LocaConfig(
        n_frequency=FREQUENCIES,
        target_modules=TARGETS,
        keep_update=keep_update,
        init_weights=False,
        location_seed=0,
    )
    model = get_peft_model(base, config)
    for module in model.modules():
        if isinstance(module, LocaLayer):
            module.freeze("default", [frozen])
    if layer_type is not None:
        use_reference(model, layer_type)
    return model


def fourierft(base: nn.Module) -> nn.Module:
    """peft's FourierFT."""
    return get_peft_model(base, FourierFTConfig(n_frequency=FREQUENCIES, target_modules=TARGETS))


def fourierft_fast(base: nn.Module, keep_update: bool = False) -> nn.Module:
    """The same, computed fast."""
    model = fourierft(base)
    compute_fast(model, keep_update)
    return model


VARIANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "floor": lambda base: base,
    "lora": lora,
    "loca dense": partial(loca, layer_type=DenseLinear),
    "loca rank product": partial(loca, layer_type=RankProductLinear),
    "loca, rebuilt": loca,
    "loca, kept": partial(loca, keep_update=True),
    "loca dense, locations": partial(loca, frozen=COEFFICIENTS, layer_type=DenseLinear),
    "loca, rebuilt, locations": partial(loca, frozen=COEFFICIENTS),
    "fourierft": fourierft,
    "fourierft fast, rebuilt": fourierft_fast,
    "fourierft fast, kept": partial(fourierft_fast, keep_update=True),
}

MEMORY_VARIANTS = (
    "lora",
    "loca dense",
    "loca, rebuilt",
    "loca, kept",
    "fourierft",
    "fourierft fast, rebuilt",
    "fourierft fast, kept",
)


class Trained:
    """One variant of a base model, with its optimiser.

    Args:
        base: changed in place.
    """

    def __init__(self, variant: str, base: nn.Module) -> None:
        self.model = VARIANTS[variant](base).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=1e-3) if trained else None

    def step(self, inputs: Tensor) -> None:
        """One training step on ``inputs`` ``(batch, length, width)``, under autocast if they have 16 bits."""
        with torch.autocast(inputs.device.type, inputs.dtype) if inputs.dtype.itemsize < 4 else nullcontext():
            outputs = self.model(inputs_embeds=inputs.clone().requires_grad_()).last_hidden_state
        outputs.float().square().mean().backward()
        if self.optimiser is not None:
            self.optimiser.step()
            self.optimiser.zero_grad()


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


def spread(values: Sequence[float], unit: str = "{:.3f}") -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{unit.format(middle)} ({unit.format(low)}-{unit.format(high)})"


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
    parser = argparse.ArgumentParser(prog="python -m methods.loca.benchmark", description="Measure training steps.")
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
        from parbench.methods.loca.benchmark_on_device import report

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
