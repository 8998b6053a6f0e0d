"""`tests.perf.loca_benchmark` on an accelerator: time of steps, peak memory, and the paths of the choice rule.

Time is the device's, by events around a few steps in a row, so that kernels queue up as they do in training. All
variants share the frozen weights: of a LLaMA-7B a device does not hold one for each. On a CPU it is the processor's
time, for tests.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from parbench.methods.loca.basis import CosineBasis
from parbench.methods.spectral.outer_products import OuterProducts
from parbench.methods.spectral.precision import at_least_float32, product_cost
from parbench.methods.spectral.spectrum import SparseSpectrum
from tests.perf.loca_variants import FREQUENCIES, SHAPES, Shape, Trained, spread

# The defaults on accelerators first: updates are rebuilt there.
VARIANTS = (
    "floor",
    "lora",
    "loca, rebuilt",
    "loca, kept",
    "loca, rebuilt, locations",
    "fourierft",
    "fourierft fast, rebuilt",
)
# The layers that LoCA is measured against; at LLaMA's width their dense transforms would take minutes.
DENSE = ("loca dense", "loca rank product")
DENSE_WIDTH = 1024
# Steps of a variant in a row. The first of them alone would show how long Python takes to begin.
STEPS = 5


def report(name: str, device: torch.device, rounds: int, blocks: int | None = None) -> Iterator[str]:
    """Yield Markdown tables of a shape, by the name in `SHAPES`, in each of its dtypes.

    Args:
        name: of the shape.
        device: where to measure.
        rounds: how often each variant is timed.
        blocks: instead of all.
    """
    shape = SHAPES[name]
    blocks = blocks or shape.blocks
    for dtype in shape.dtypes:
        yield (
            f"\n{name}, {blocks} blocks, {shape.batch} x {shape.length} tokens, {str(dtype).removeprefix('torch.')}, "
            f"torch {torch.__version__} on {device_name(device)}, {rounds} rounds of {STEPS} steps\n"
        )
        variants = VARIANTS if shape.width > DENSE_WIDTH else (*VARIANTS, *DENSE)
        with new_tensors(device, dtype):
            base = shape.base(blocks)
        inputs = torch.randn(shape.batch, shape.length, shape.width, device=device, dtype=dtype)
        peaks = peak_bytes(variants, base, inputs)
        yield table(times(variants, base, inputs, rounds), peaks) + "\n"
        del base
        free(device)
        yield ways_table(shape, dtype, device, rounds) + "\n"


def device_name(device: torch.device) -> str:
    """Return what a device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def new_tensors(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Make tensors on a device, and of a dtype, from the start: the host need not hold a LLaMA-7B."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def beside(variant: str, base: nn.Module) -> Trained:
    """Return a variant that shares the frozen weights of ``base``, which stays as it is."""
    return Trained(variant, copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()}))


def times(variants: Sequence[str], base: nn.Module, inputs: Tensor, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one step of each variant in each of the rounds, after one that warms up."""
    trained = {variant: beside(variant, base) for variant in variants}
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for variant, one in trained.items():
            taken = seconds_of(lambda one=one: one.step(inputs), inputs.device)  # type: ignore[misc]
            if number:
                seconds[variant].append(taken)
    return seconds


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int = STEPS) -> float:
    """Return the seconds of one of several calls in a row."""
    if device.type != "cuda":
        begin = time.process_time()
        for _ in range(repeats):
            call()
        return (time.process_time() - begin) / repeats
    torch.cuda.synchronize(device)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    stream = torch.cuda.current_stream(device)
    start.record(stream)
    for _ in range(repeats):
        call()
    end.record(stream)
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3 / repeats


def peak_bytes(variants: Sequence[str], base: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Return the most that a device's tensors took in a step of each variant, each alone beside the frozen weights.

    Empty if the device does not report it.
    """
    if inputs.device.type != "cuda":
        return {}
    peaks: dict[str, int] = {}
    for variant in variants:
        one = beside(variant, base)
        one.step(inputs)
        torch.cuda.reset_peak_memory_stats(inputs.device)
        one.step(inputs)
        peaks[variant] = torch.cuda.max_memory_allocated(inputs.device)
        del one
        free(inputs.device)
    return peaks


def free(device: torch.device) -> None:
    """Free unused memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def table(seconds: dict[str, list[float]], peaks: dict[str, int]) -> str:
    """Return time and memory as Markdown; ratios and differences are those of a round."""
    lines = ["| variant | ms | of LoRA | ms above the floor | peak MiB | of LoRA |", "|---|---|---|---|---|---|"]
    for variant, values in seconds.items():
        ratios = [value / lora for value, lora in zip(values, seconds["lora"], strict=True)]
        above = [1000 * (value - floor) for value, floor in zip(values, seconds["floor"], strict=True)]
        memory = [f"{peaks[variant] / 2**20:.0f}", f"{peaks[variant] / peaks['lora']:.3f}"] if peaks else ["", ""]
        cells = (
            variant,
            spread([1000 * value for value in values], "{:.2f}"),
            spread(ratios),
            spread(above, "{:.2f}"),
            *memory,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


class _Forced(SparseSpectrum):
    """A spectrum whose rule is overruled."""

    forms = True

    def forms_product(self, tokens: int, entries: int, cost: float) -> bool:
        """See `SparseSpectrum`."""
        return self.forms


def ways_table(shape: Shape, dtype: torch.dtype, device: torch.device, rounds: int) -> str:
    """Return the time of the parts of one layer's work as Markdown, to check the constants of `SparseSpectrum`.

    Where forming ``G`` is the faster way and not the chosen one, or the other way round, they are wrong for the device.
    """
    width, tokens = shape.width, shape.batch * shape.length
    count = min(FREQUENCIES, width * width)
    x, grad_y = (torch.randn(tokens, width, device=device, dtype=dtype) for _ in range(2))
    weight = torch.randn(width, width, device=device, dtype=dtype)
    rows, cols = (torch.randint(0, width, (count,), device=device) for _ in range(2))
    values = torch.randn(count, device=device)
    cells = SparseSpectrum(width, width, CosineBasis).cells(rows, cols)
    products = OuterProducts(values, *SparseSpectrum(width, width, CosineBasis).rows(cells, dtype))
    spectra = {forms: _Forced(width, width, CosineBasis) for forms in (True, False)}
    spectra[False].forms = False
    rule = SparseSpectrum(width, width, CosineBasis).forms_product(tokens, count, product_cost(dtype, device))
    parts: dict[str, Callable[[], object]] = {
        "one product with the weight": lambda: x @ weight.T,
        "building the update": lambda: spectra[True].synthesise(values, cells),
        "a product with the update, by outer products": lambda: products.scale(x @ products.cols.T) @ products.rows,
        "adding it to the weight, rounded": lambda: (at_least_float32(weight) + 1.0).to(dtype),
        f"coefficients' gradient by forming G{', chosen' if rule else ''}": lambda: spectra[True].entries_of_product(
            grad_y, x, cells
        ),
        f"coefficients' gradient without G{'' if rule else ', chosen'}": lambda: spectra[False].entries_of_product(
            grad_y, x, cells
        ),
    }
    lines = [f"| one {width} x {width} layer, {count} coefficients | ms |", "|---|---|"]
    for part, call in parts.items():
        measured = [1000 * seconds_of(call, device) for _ in range(rounds + 1)][1:]
        lines.append(f"| {part} | {spread(measured)} |")
    return "\n".join(lines)
