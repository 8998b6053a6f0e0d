"""Model cards of exported adapters, written from the record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from huggingface_hub import ModelCardData
from scipy.stats import t as student

from parbench.bench.deploy.export import Converted
from parbench.bench.deploy.trained import TrainedRun
from parbench.bench.models.convert.conversion import Conversion
from parbench.bench.models.weights import ConvertedWeights, PackageWeights, Weights
from parbench.bench.record.deployment import size_in_words
from parbench.bench.record.run_record import RunRecord
from parbench.bench.store.store import Store
from parbench.bench.util.base_precision import DESCRIPTIONS, FLOAT32
from parbench.reports.deployment.usage import usage
from parbench.reports.integrity import Checked, Checker
from parbench.reports.jackknife import LeftOut, score_methods
from parbench.reports.statistics import Interval
from parbench.reports.tables import SMALL_LABEL
from parbench.tasks import metric_unit
from parbench.tasks.data.package import Package

UNKNOWN = "not recorded"


def card_of(store: Store, trained: TrainedRun, form: str, converted: Converted | None = None) -> str:
    """Return the README.md of an exported folder: metadata of the hub, and what the record says.

    Args:
        store: what holds the run.
        trained: the run.
        form: of the export, see `parbench.bench.deploy.export.export`.
        converted: what a conversion to LoRA has left.
    """
    record, run = trained.record, trained.planned
    weights = run.base_model.weights
    licence = _licence(weights)
    metadata = ModelCardData(
        base_model=weights.location() if weights.on_hub else None,
        library_name="peft" if trained.is_adapter and form != "merged" else "transformers",
        license=licence.lower() if licence != UNKNOWN else "unknown",
        tags=["parbench", record.spec.method],
    )
    parts = [f"---\n{metadata.to_yaml()}\n---", *_text(store, trained, form, licence, converted)]
    return "\n\n".join(parts) + "\n"


def _text(store: Store, trained: TrainedRun, form: str, licence: str, converted: Converted | None) -> Iterator[str]:
    record, run = trained.record, trained.planned
    spec = record.spec
    yield f"# {spec.method} on {spec.task}"
    if spec.small:
        yield f"**{SMALL_LABEL}.**"
    yield _what(trained, form, converted)
    yield usage(trained, form)
    reference = run.method.reference
    cited = f"{reference.title} ({reference.venue}, {reference.year})"
    yield _table(
        {
            "base model": f"{spec.base_model}, revision `{spec.model_revision}`",
            "base weights": DESCRIPTIONS[spec.base_precision],  # type: ignore[index]
            "method": f"{spec.method}: {cited}",
            "task": f"{spec.task}: {run.task.reference.title}",
            "data": f"{spec.data_source}, revision `{spec.data_revision}`",
            "seed": str(spec.seed),
            "protocol": spec.protocol,
        }
    )
    yield "## Scores"
    yield _scores(store, record)
    yield "## Setting"
    yield f"```json\n{json.dumps({'setting': spec.setting, 'training': spec.training}, indent=1, sort_keys=True)}\n```"
    yield "## Cost"
    yield _table({**_of_conversion(converted), **dict(_cost(record, converted))})
    yield "## Licence"
    yield (
        f"Base model: {licence}. Data: {UNKNOWN}; see its publisher. This adapter: to be stated by whoever publishes "
        "it, within the terms of both."
    )


def _what(trained: TrainedRun, form: str, converted: Converted | None) -> str:
    method = trained.record.spec.method
    if converted is not None:
        kept = size_in_words(converted.size)
        return f"The adapter of {method}, converted to a LoRA of {kept}. The scores are those of the original."
    if not trained.is_adapter:
        what = "The whole model" if form == "merged" else "The weights of the base model, and no others,"
        return f"{what} that {method} trained.{_rounded(trained) if form == 'merged' else ''}"
    if form == "merged":
        return f"The base model with the adapter of {method} merged into its weights, in float32.{_rounded(trained)}"
    return f"The adapter of {method} as it was trained."


def _rounded(trained: TrainedRun) -> str:
    """Return what merged weights are of a run whose base weights were not in float32, as a sentence."""
    precision = trained.record.spec.base_precision
    if precision == FLOAT32:
        return ""
    return (
        f" These are the run's own base weights, rounded to {precision} and given back in float32. How the run itself "
        "computed with them is said below, under base weights; the scores are of that."
    )


def _table(values: dict[str, str]) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")


def _scores(store: Store, record: RunRecord) -> str:
    checked = Checker(store).check(record)
    left = checked.left_out if isinstance(checked, Checked) else None
    interval = _interval(left) if isinstance(left, LeftOut) else None
    values: dict[str, str] = {}
    for name, value in record.metrics.items():
        unit = metric_unit(record.spec.task, name)
        ends = ""
        if name == record.primary and interval is not None:
            ends = f" [{unit.text(interval.low)}, {unit.text(interval.high)}] (95 %, over the draw of the examples)"
        values[f"{name}{unit.mark}"] = unit.text(value) + ends
    values["examples"] = f"{record.examples.get('reported', 0):,}"
    return _table(values)


def _interval(left: LeftOut) -> Interval:
    scores: Any = score_methods({"run": {0: left}})["run"]
    half = float(student.ppf(0.975, scores.degrees)) * math.sqrt(float((scores.deviations[:, 0] ** 2).sum()))
    return Interval(float(scores.by_seed[0]) - half, float(scores.by_seed[0]) + half, 0.95)


def _of_conversion(converted: Converted | None) -> dict[str, str]:
    if converted is None:
        return {}
    return {
        "parameters of this LoRA": f"{converted.numbers:,}",
        "its file (bytes, with the task head)": f"{converted.bytes:,}",
        "lost of the updates by the conversion (Frobenius norm, relative)": f"{converted.error:.2g}",
    }


def _cost(record: RunRecord, converted: Converted | None) -> Iterator[tuple[str, str]]:
    if record.ledger is not None:
        of = " of the original" if converted else ""
        yield f"parameters{of}, as the paper counts", f"{record.ledger.reported:,}"
        yield f"adapter file{of} (bytes, without the task head)", f"{record.ledger.stored_bytes:,}"
    if record.cost is not None:
        yield "training", f"{record.cost.train_steps:,} steps in {record.cost.train_seconds:.0f} s"
    machine = record.provenance.hardware
    yield "hardware", machine.get("accelerator") or machine.get("cpu", UNKNOWN)
    yield "versions", ", ".join(f"{name} {version}" for name, version in sorted(record.provenance.versions.items()))


def _licence(weights: Weights) -> str:
    """Return the licence of a model that one package carries; of a model made of several it is not one."""
    source = weights.package if isinstance(weights, PackageWeights) else None
    if isinstance(weights, ConvertedWeights) and isinstance(weights.conversion, Conversion):
        source = weights.conversion.package
    return source.licence if isinstance(source, Package) else UNKNOWN
