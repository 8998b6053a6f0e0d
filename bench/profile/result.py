"""A profile: all that was measured, with what it was measured on, as JSON that can be read again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.profile.machine_load import MachineLoad
from parbench.bench.profile.measurement import Measurement
from parbench.bench.profile.workload import Candidate, Repetitions, Workload
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PROFILE_FORMAT = 2
PROFILE = "profile.json"


@dataclass(frozen=True)
class Largest:
    """The largest batch of a subject that fits.

    Attributes:
        batch: examples; 0 where not even one fits.
        failed: the smallest that was tried and did not fit; ``None`` where all did.
        reason: why it did not.
        tried: every batch and whether it fitted.
    """

    subject: Candidate
    batch: int
    failed: int | None
    reason: str
    tried: tuple[tuple[int, bool], ...]


@dataclass(frozen=True)
class Profile:
    """All that was measured.

    Attributes:
        base_model: its name, as records have it.
        workload: at the first of ``batches``.
        tokens: of an example; 1 of an image.
        visits: every process that was started, in the order of time.
        surroundings: what else the machine did, before each round.
        largest: where it was asked for.
    """

    base_model: str
    workload: Workload
    effort: Repetitions
    tokens: int
    subjects: tuple[Candidate, ...]
    batches: tuple[int, ...]
    rounds: int
    started: str
    finished: str
    command: str
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    visits: list[Measurement]
    surroundings: list[MachineLoad]
    largest: list[Largest] = field(default_factory=list)

    @property
    def hardware(self) -> dict[str, str]:
        """The device and the machine, as the first visit saw them."""
        return next((visit.hardware for visit in self.visits if visit.hardware), {})

    @property
    def warning(self) -> str:
        """One sentence where the machine was not idle all the time; empty where it was."""
        return next((look.warning for look in self.surroundings if look.warning), "")

    def to_json(self) -> str:
        """Return the profile as JSON text."""
        content = {"format": PROFILE_FORMAT, **dataclasses.asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_profile(path: Path) -> Profile:
    """Read what ``bench profile --out`` wrote; ``path`` is the file or its folder.

    Raises:
        UserError: it is not there, or not a profile of this format.
    """
    from pydantic import ValidationError

    file = path / PROFILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f'the profile "{file}" cannot be read ({error}); make one with bench profile --out') from error
    if not isinstance(content, dict) or content.pop("format", None) != PROFILE_FORMAT:
        raise UserError(f'"{file}" is not a profile of format {PROFILE_FORMAT}; make one with bench profile --out')
    try:
        return _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f'the profile "{file}" has a wrong field {where}: {first["msg"]}; make it anew') from error


@cache
def _adapter() -> TypeAdapter[Profile]:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(Profile))
