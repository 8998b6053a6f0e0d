"""Matches measured currencies, peak training memory or step time, by trying sizes in fresh processes.

A measured quantity is neither exact nor strictly rising with the size, so sizes are doubled, not bisected, and what was
reached is reported next to what was asked for.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UserError
from bench.models import find_model
from bench.validation import default_setting
from methods import find_method
from methods.base import Method, Setting
from methods.expression import MethodChoice

if TYPE_CHECKING:
    import torch

Currency = Literal["memory", "step-time"]

# Doubling from the smallest size: more tries than this are larger than any adapter worth the name.
MOST_TRIES = 12
WARM_UP, STEPS = 3, 15


@dataclass(frozen=True)
class Workload:
    """What is measured: training steps on random token ids.

    Attributes:
        base_model: its name; only its shape is used, with random weights.
        batch_size: examples per step.
        length: tokens per example.
        device: where.
    """

    base_model: str
    batch_size: int
    length: int
    device: str


@dataclass(frozen=True)
class Measured:
    """What training steps took.

    Attributes:
        step_seconds: median over the steps.
        peak_bytes: peak memory while training: of the device if it is an accelerator, else of the process.
    """

    step_seconds: float
    peak_bytes: int

    def amount(self, currency: Currency) -> float:
        """Return seconds or bytes."""
        return self.step_seconds if currency == "step-time" else float(self.peak_bytes)


@dataclass(frozen=True)
class Match:
    """The largest size tried whose cost is within the limit.

    Attributes:
        method: name of the method.
        size: the size in words; empty where the method has none, or nothing tried is within the limit.
        setting: the setting of that size.
        reached: what it was measured at, or what the smallest size was, if nothing is within the limit.
        limit: seconds or bytes.
        within: whether something is.
        tried: every size and its amount.
    """

    method: str
    size: str
    setting: Setting
    reached: float
    limit: float
    within: bool
    tried: tuple[tuple[str, float], ...]


Measure = Callable[[Method[Any], Setting], Measured]


def match(choice: MethodChoice, limit: float, currency: Currency, measure: Measure) -> Match:
    """Try sizes of a method, doubling from the smallest, and keep the largest within the limit."""
    method = choice.method
    start = default_setting(choice)
    tried: list[tuple[str, Setting, float]] = []
    for size in _sizes(method):
        setting = start if size is None else method.with_size(start, size)
        name = "" if size is None or method.size_knob is None else f"{method.size_knob.field}={size}"
        tried.append((name, setting, measure(method, setting).amount(currency)))
        # One try over the limit may be noise.
        if len(tried) > 1 and all(amount > limit for _, _, amount in tried[-2:]):
            break
    within = [entry for entry in tried if entry[2] <= limit]
    size_name, setting, reached = within[-1] if within else tried[0]
    amounts = tuple((name, amount) for name, _, amount in tried)
    return Match(method.name, size_name, setting, reached, limit, bool(within), amounts)


def read_limit(text: str, currency: Currency, measure: Measure) -> float:
    """Read ``match:lora(r=8)``, or ``250ms``, ``0.3s``, ``2GiB``, ``900MiB``; return seconds or bytes.

    Raises:
        UserError: it is none of these.
    """
    if text.startswith("match:"):
        choice = find_method(text.removeprefix("match:"))
        return measure(choice.method, default_setting(choice)).amount(currency)
    units = {"ms": 1e-3, "s": 1.0} if currency == "step-time" else {"MiB": 2.0**20, "GiB": 2.0**30}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdecimal() and float(number) > 0:
            return float(number) * factor
    examples = "250ms or 0.3s" if currency == "step-time" else "900MiB or 2GiB"
    raise UserError(f'"--budget {text}" is no {currency}: give match:lora(r=8), {examples}')


def in_fresh_process(workload: Workload) -> Measure:
    """Return a function that measures in a new process: nothing of one candidate is left when the next is measured."""
    kept: dict[tuple[str, str], Measured] = {}

    def measure(method: Method[Any], setting: Setting) -> Measured:
        key = (method.name, setting.model_dump_json())
        if key not in kept:
            request = {**asdict(workload), "method": method.name, "setting": setting.model_dump(mode="json")}
            done = subprocess.run(
                [sys.executable, "-m", "bench.match"], input=json.dumps(request), capture_output=True, text=True
            )
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise UserError(f"{method.name} cannot be measured on {workload.base_model}: {reason}")
            kept[key] = Measured(**json.loads(done.stdout.splitlines()[-1]))
        return kept[key]

    return measure


def measure_here(workload: Workload, method: Method[Any], setting: Setting) -> Measured:
    """Train a few steps in this process; warm-up steps count for memory and not for time."""
    import torch

    from bench.environment import choose_device, quiet_libraries
    from bench.measure import peak_memory
    from methods.architecture import module_names

    quiet_libraries()
    device = choose_device(workload.device)
    torch.manual_seed(0)
    base = find_model(workload.base_model).skeleton(device=str(device))
    names = module_names(base)
    model = method.adapt(base, names, setting).to(device).train()
    groups = [
        {"params": list(group.parameters), "lr": group.learning_rate}
        for group in method.parameter_groups(model, names, setting)
        if group.parameters
    ]
    optimiser = torch.optim.AdamW(groups)
    seconds: list[float] = []
    with peak_memory(device) as peak:
        for _ in range(WARM_UP + STEPS):
            seconds.append(_step(model, optimiser, _batch(base.config, workload, device), device))
    return Measured(statistics.median(seconds[WARM_UP:]), peak.device_bytes or peak.process_bytes)


def _sizes(method: Method[Any]) -> Sequence[int | None]:
    knob = method.size_knob
    if knob is None:
        return [None]
    if knob.choices:
        return knob.choices[:MOST_TRIES]
    return [knob.smallest * 2**power for power in range(MOST_TRIES)]


def _batch(config: Any, workload: Workload, device: torch.device) -> dict[str, torch.Tensor]:
    import torch

    if hasattr(config, "image_size"):
        side = config.image_size
        return {"pixel_values": torch.randn(workload.batch_size, config.num_channels, side, side, device=device)}
    ids = torch.randint(5, config.vocab_size, (workload.batch_size, workload.length), device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _step(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer, batch: dict[str, torch.Tensor], device: torch.device
) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    model(**batch).logits.float().square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _main() -> None:
    request = json.load(sys.stdin)
    method = find_method(request.pop("method")).method
    setting = method.setting_type.model_validate(request.pop("setting"))
    print(json.dumps(asdict(measure_here(Workload(**request), method, setting))))  # noqa: T201 - the answer


if __name__ == "__main__":
    _main()
