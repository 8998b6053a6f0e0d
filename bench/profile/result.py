"""A profile: all measurements with their machine and workload, and its JSON format."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.profile.machine_load import MachineLoad
from parbench.bench.profile.measurement import Measurement
from parbench.bench.profile.workload import Candidate, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PROFILE_FORMAT = 3
# Names in files of format 2, and those that replaced them.
_FORMER = {"visits": "measurements", "surroundings": "machine_load", "subjects": "candidates"}
_FORMER_OF_PARTS = {"order": "job", "subject": "candidate"}
PROFILE = "profile.json"


@dataclass(frozen=True)
class Largest:
    """The largest batch of a candidate that fits.

    Attributes:
        batch: number of examples; 0 if not even one fits.
        failed: the smallest batch tried that did not fit; ``None`` if all fitted.
        reason: why it did not fit.
        tried: by batch, whether it fitted.
    """

    candidate: Candidate
    batch: int
    failed: int | None
    reason: str
    tried: tuple[tuple[int, bool], ...]


@dataclass(frozen=True)
class Profile:
    """A profile of one base model.

    Attributes:
        base_model: name of the base model, as in records.
        workload: the workload, at the first of ``batches``.
        tokens: per example; 1 for an image.
        measurements: the measurements, in the order of time.
        machine_load: load of the machine before each round.
        largest: the largest batches that fit, if they were searched.
        frames: per example; 0 for what is no clip.
    """

    base_model: str
    workload: Workload
    effort: Repetitions
    tokens: int
    candidates: tuple[Candidate, ...]
    batches: tuple[int, ...]
    rounds: int
    started: str
    finished: str
    command: str
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    measurements: list[Measurement]
    machine_load: list[MachineLoad]
    largest: list[Largest] = field(default_factory=list)
    frames: int = 0

    @property
    def hardware(self) -> dict[str, str]:
        """Device and machine, as recorded by the first measurement."""
        return next((measurement.hardware for measurement in self.measurements if measurement.hardware), {})

    @property
    def warning(self) -> str:
        """A sentence if the machine was not idle all the time, else empty."""
        return next((load.warning for load in self.machine_load if load.warning), "")

    @property
    def failures(self) -> dict[str, str]:
        """Why a candidate could not be measured at any batch size, by its name; none that was refused before."""
        measured = {one.job.candidate.name for one in self.measurements if one.status in (Status.OK, Status.SKIPPED)}
        failed = (one for one in self.measurements if one.job.candidate.name not in measured)
        return {one.job.candidate.name: one.reason or str(one.status) for one in failed}

    def to_json(self) -> str:
        """Return the profile as JSON text."""
        content = {"format": PROFILE_FORMAT, **dataclasses.asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_profile(path: Path) -> Profile:
    """Read a profile written by ``bench profile --out``; ``path`` is the file or its folder.

    Raises:
        UserError: the file does not exist, or is not a profile of this format.
    """
    from pydantic import ValidationError

    file = path / PROFILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f'the profile "{file}" cannot be read ({error}); make one with bench profile --out') from error
    number = content.pop("format", None) if isinstance(content, dict) else None
    if number == 2:
        content = _with_present_names(content)
    elif number != PROFILE_FORMAT:
        raise UserError(f'"{file}" is not a profile of format {PROFILE_FORMAT}; make one with bench profile --out')
    try:
        return _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f'the profile "{file}" has a wrong field {where}: {first["msg"]}; make one with bench profile --out'
        ) from error


def _with_present_names(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file of format 2 with the names of format 3; what is of a wrong type stays."""
    found = _renamed(content, _FORMER)
    for name in ("measurements", "largest"):
        if isinstance(found.get(name), list):
            found[name] = [_renamed(part, _FORMER_OF_PARTS) for part in found[name]]
    if isinstance(found.get("measurements"), list):
        for part in found["measurements"]:
            if isinstance(part, dict) and "job" in part:
                part["job"] = _renamed(part["job"], _FORMER_OF_PARTS)
    return found


def _renamed(value: Any, names: dict[str, str]) -> Any:
    return {names.get(key, key): inner for key, inner in value.items()} if isinstance(value, dict) else value


@cache
def _adapter() -> TypeAdapter[Profile]:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(Profile))
