"""Measures what can be done with the adapter of a finished run."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from peft import PeftModel
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from parbench.bench.deploy.conversion import CannotConvertError, to_lora
from parbench.bench.deploy.lora_files import write_lora
from parbench.bench.deploy.lora_variant import lora_rank, lora_variant
from parbench.bench.deploy.plain_peft import why_not_plain_peft
from parbench.bench.deploy.trained import TrainedRun
from parbench.bench.record.deployment import AS_LOADED, Conversion, Deployment, Merge, target_name
from parbench.bench.store.deployments import adapter_digest
from parbench.bench.store.rows import without_unused_logits
from parbench.bench.train.prepare import PreparedData
from parbench.bench.train.train import Trained
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError
from parbench.methods.adapter_files import adapter_tensors
from parbench.methods.selection import adapted_modules
from parbench.tasks.inference import Predictor

# Examples of the selection split that logits are compared on, and repetitions of a timed inference.
EXAMPLES = 16
REPETITIONS = 10
DTYPES = ("float32", "bfloat16")
PROMPT = "it is a prompt before the input, and no update of weights"
JUDGED = "answers are rated by a judge, which is not asked again"


@dataclass(frozen=True)
class Measured:
    """What is measured, and where.

    Attributes:
        sizes: of the LoRAs that the adapter is converted to: ranks, and shares of energy below 1.
        device: where the examples are scored.
        folder: where the per-example rows are written.
        plain_peft: whether to load the adapter in a process without parbench, too.
    """

    sizes: Sequence[int | float]
    device: torch.device
    folder: Path
    plain_peft: bool = True


def measure(trained: TrainedRun, data: PreparedData, asked: Measured) -> Deployment:
    """Measure the adapter of a run.

    The update is added to the run's base weights, in float32 where these were quantised.

    Args:
        trained: the run.
        data: its data.
        asked: what to measure.

    Raises:
        UserError: the run trained weights of the base model.
    """
    if not trained.is_adapter:
        method = trained.record.spec.method
        raise UserError(
            f"{method} trains weights of the base model itself: it has no adapter to be measured, and can be used as a "
            "whole model; bench adapter export with --merged writes it"
        )
    base = trained.base(dequantised=True)
    model = cast(PeftModel, trained.model(copy.deepcopy(base)))
    inputs = _inputs(trained, data)
    expected = logits(model, inputs)
    with_merged = _merged_in(model, "float32")
    one = {name: tensor[:1] for name, tensor in inputs.items()}
    plain = why_not_plain_peft(base, trained.folder, inputs, expected) if asked.plain_peft else "not tried"
    config: Any = model.peft_config["default"]
    return Deployment(
        run_id=trained.record.run_id,
        kind=str(getattr(config.peft_type, "value", config.peft_type)),
        rank=lora_rank(config),
        variant=lora_variant(config),
        targets=tuple(sorted({name.rpartition(".")[2] for name in adapted_modules(model)})),
        whole_modules=tuple(config.modules_to_save or ()) if hasattr(config, "modules_to_save") else (),
        adapter_bytes=len(save({name: tensor.contiguous() for name, tensor in adapter_tensors(model).items()})),
        merges=tuple(_merge(model, inputs, dtype) for dtype in DTYPES),
        plain_peft=plain,
        switched=_why_not_switched(model, trained.folder, inputs, expected),
        mixed=_why_not_mixed(model, inputs, expected),
        unmerged_seconds=_seconds(model, one),
        merged_seconds=_seconds(with_merged, one) if isinstance(with_merged, nn.Module) else None,
        conversions=tuple(_conversions(trained, base, model, data, asked)),
        made=environment.now(),
        hardware=environment.hardware(asked.device),
        versions=environment.versions(),
        adapter=adapter_digest(trained.record),
    )


@torch.no_grad()
def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return the outputs of a model in evaluation mode, in float32."""
    found: Tensor = model.eval()(**inputs).logits
    return found.float()


def _inputs(trained: TrainedRun, data: PreparedData) -> dict[str, Tensor]:
    rows = data.selection.inputs
    collate = trained.planned.task.collate(data.processor)
    batch = collate([rows[place] for place in range(min(EXAMPLES, len(rows)))])
    # Labels are the inputs of a decoder beside an encoder.
    left_out = set() if trained.planned.base_model.config().is_encoder_decoder else {"labels"}
    return {name: tensor for name, tensor in batch.items() if name not in left_out}


def _merged_in(model: PeftModel, dtype: str) -> nn.Module | str:
    """Return a copy of a model with the adapter merged, or why it cannot be merged."""
    if _is_prompt(model):
        return PROMPT
    copied: Any = copy.deepcopy(model).to(getattr(torch, dtype))
    try:
        return cast(nn.Module, copied.merge_and_unload())
    except Exception as error:  # whatever a tuner raises
        return (str(error).splitlines() or [type(error).__name__])[0]


def _is_prompt(model: PeftModel) -> bool:
    return bool(model.peft_config["default"].is_prompt_learning)


def _merge(model: PeftModel, inputs: dict[str, Tensor], dtype: str) -> Merge:
    merged = _merged_in(model, dtype)
    if isinstance(merged, str):
        return Merge(dtype, reason=merged)
    converted = {name: _in(tensor, dtype) for name, tensor in inputs.items()}
    before = logits(copy.deepcopy(model).to(getattr(torch, dtype)), converted)
    change = float((logits(merged, converted) - before).abs().max())
    return Merge(dtype, change, float(before.abs().max()))


def _in(tensor: Tensor, dtype: str) -> Tensor:
    return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor


def _why_not_switched(model: PeftModel, folder: Path, inputs: dict[str, Tensor], expected: Tensor) -> str:
    copied: Any = copy.deepcopy(model)
    try:
        copied.load_adapter(str(folder), "second")
        copied.set_adapter("second")
        found = logits(copied, inputs)
    except Exception as error:  # whatever a tuner raises
        return (str(error).splitlines() or [type(error).__name__])[0]
    return "" if _same(found, expected) else "the second adapter computes something else"


def _why_not_mixed(model: PeftModel, inputs: dict[str, Tensor], expected: Tensor) -> str:
    copied: Any = copy.deepcopy(model)
    # "__base__" is peft's name of none.
    names = ["default" if place % 2 else "__base__" for place in range(len(expected))]
    try:
        with copied.disable_adapter():
            alone = logits(copied, inputs)
        with torch.no_grad():
            found = copied.eval()(**inputs, adapter_names=names).logits.float()
    except Exception as error:  # whatever a tuner raises
        return (str(error).splitlines() or [type(error).__name__])[0]
    expected = torch.stack([(expected if name == "default" else alone)[place] for place, name in enumerate(names)])
    return "" if _same(found, expected) else "every row gets the same adapter"


def _same(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())


@torch.no_grad()
def _seconds(model: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Return the median time of an inference, after two that are not timed."""
    model.eval()
    taken = []
    for _ in range(REPETITIONS + 2):
        began = time.perf_counter()
        model(**inputs)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[2:])


def _conversions(
    trained: TrainedRun, base: PreTrainedModel, model: PeftModel, data: PreparedData, asked: Measured
) -> list[Conversion]:
    judged = JUDGED if hasattr(trained.planned.task.options, "judge") else ""

    def scored(scored_model: nn.Module, name: str) -> str | None:
        return None if judged else _score(trained, scored_model, data, asked, name)

    found = [Conversion(AS_LOADED, rows=scored(copy.deepcopy(model), "as_loaded.parquet"), reason=judged)]
    for size in asked.sizes:
        target = target_name(size)
        if _is_prompt(model):
            found.append(Conversion(target, reason=PROMPT))
            continue
        try:
            lora = to_lora(model, size)
        except CannotConvertError as error:
            found.append(Conversion(target, reason=str(error)))
            continue
        folder = asked.folder / f"lora_{target}"
        stored = write_lora(lora, folder)
        converted = cast(nn.Module, PeftModel.from_pretrained(copy.deepcopy(base), str(folder)))
        rows = scored(converted, f"lora_{target}.parquet")
        found.append(Conversion(target, (lora.ranks[0], lora.ranks[-1]), stored, lora.error, rows, judged))
    return found


def _score(trained: TrainedRun, model: nn.Module, data: PreparedData, asked: Measured, name: str) -> str:
    """Write the per-example rows of the reported split, and return the name of the file."""
    run, record = trained.planned, trained.record
    predictor = Predictor(
        model.to(asked.device),
        data.processor,
        run.task.collate(data.processor),
        run.training.evaluation_batch_size,
        asked.device,
        run.training.precision,
    )
    cost, counts = record.cost, record.ledger
    steps, seconds = (cost.train_steps, cost.train_seconds) if cost else (0, 0.0)
    # The run is over: its record is the evidence.
    split = data.reported(run.spec).after(Trained(steps, seconds, counts.trainable if counts else 0, []))
    rows: pd.DataFrame = run.task.predict(predictor, split.rows, split.inputs)
    without_unused_logits(rows, run.task.score).to_parquet(asked.folder / name, index=False)
    return name
