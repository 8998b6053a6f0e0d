"""What was measured of a trained adapter, as JSON in the store beside the runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from parbench.bench.store.layout import DEPLOYMENT
from parbench.bench.store.store import Store
from parbench.bench.util.files import explained, write_atomically

RESULT = "deployment.json"
AS_LOADED = "as loaded"
"""The target of a conversion that is none: the adapter itself, loaded again and scored again."""


@dataclass(frozen=True)
class Merge:
    """Merging an adapter into base weights of one dtype.

    Attributes:
        dtype: of the weights.
        difference: largest change of a logit by merging; ``None`` where it cannot be merged.
        largest: largest logit.
        reason: why it cannot be merged.
    """

    dtype: str
    difference: float | None = None
    largest: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Conversion:
    """An adapter converted to LoRA, scored on the examples that the run was scored on.

    Attributes:
        target: the rank; the share of energy that is kept; or `AS_LOADED`.
        ranks: least and largest rank of a module.
        bytes: of the adapter file.
        error: Frobenius norm of what is lost of the updates, as a share of theirs.
        rows: file of the per-example rows; ``None`` where there are none.
        reason: why it cannot be converted, or not be scored.
    """

    target: str
    ranks: tuple[int, int] | None = None
    bytes: int | None = None
    error: float | None = None
    rows: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Deployment:
    """What can be done with the adapter of one run.

    Attributes:
        run_id: the run.
        kind: type of the adapter in peft; empty where weights of the base model were trained.
        rank: of a LoRA, the largest of its modules.
        variant: what a LoRA has beside its factors, such as ``dora``; empty for a plain one.
        targets: last names of the adapted modules.
        whole_modules: modules that are saved whole, such as the task head.
        adapter_bytes: of the adapter file.
        merges: by dtype.
        plain_peft: why a process with peft and without parbench cannot load it; empty where it can, and gets the same
            logits.
        switched: why a second adapter cannot be loaded beside it and switched to; empty where it can.
        mixed: why one batch cannot use several adapters; empty where it can.
        unmerged_seconds: of one example, median.
        merged_seconds: likewise, merged.
        conversions: to LoRA.
        made: when.
        hardware: where.
        versions: of the libraries.
    """

    run_id: str
    kind: str
    rank: int | None
    variant: str
    targets: tuple[str, ...]
    whole_modules: tuple[str, ...]
    adapter_bytes: int
    merges: tuple[Merge, ...]
    plain_peft: str
    switched: str
    mixed: str
    unmerged_seconds: float
    merged_seconds: float | None
    conversions: tuple[Conversion, ...]
    made: str
    hardware: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def folder_of(store: Store, run_id: str) -> Path:
    """Return where the deployment of a run is kept."""
    return store.root / DEPLOYMENT / run_id


def write_deployment(found: Deployment, folder: Path) -> None:
    """Write a deployment.

    Raises:
        UserError: the folder cannot be written to.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULT, json.dumps(dataclasses.asdict(found), indent=1) + "\n")


def read_deployments(store: Store) -> Iterator[Deployment | str]:
    """Yield what was measured, and a sentence for each folder that cannot be read."""
    for path in sorted((store.root / DEPLOYMENT).glob(f"*/{RESULT}")):
        try:
            found = _adapter().validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            yield f"{DEPLOYMENT}/{path.parent.name}/{RESULT} cannot be read ({reason})"
            continue
        yield found if found.run_id == path.parent.name else f"{DEPLOYMENT}/{path.parent.name} is of another run"


@cache
def _adapter() -> TypeAdapter[Deployment]:
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(Deployment))
