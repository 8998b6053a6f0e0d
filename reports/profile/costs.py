"""Costs of the rows of the leaderboards, from profiles; see `parbench.bench.profile`.

A profile is measured separately from the scored runs, on its own batches. A measurement is assigned to a row of a
leaderboard if base model, method and size are the same; other hyper-parameters may differ, and are then named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from parbench.bench.profile.measurement import SPECIALISE
from parbench.bench.profile.result import PROFILE, Profile, read_profile
from parbench.bench.record.run_spec import Json
from parbench.bench.store.layout import PROFILE as PROFILE_FOLDER
from parbench.bench.store.store import Store
from parbench.bench.util.base_precision import QUANTISED
from parbench.bench.util.errors import UserError
from parbench.reports.profile.summary import CandidateRow, Spread, reference_of, rows_of
from parbench.reports.profile.tables import conditions
from parbench.reports.tables import NOTHING, Table

STEP, MEMORY = "profiled_step", "profiled_memory"
_ENDS = {"": "median", "_least": "low", "_most": "high"}

NOTE = "Measured by bench profile, separately from the scored runs: median of the rounds, with minimum and maximum."


@dataclass(frozen=True)
class Profiled:
    """Profiles beside the leaderboards.

    Attributes:
        cells: the cells of the summary whose cost a profile has. ``profiled_step`` is the time of a training step as a
            multiple of LoRA's, ``profiled_memory`` the peak memory of training in bytes; ``_least`` and ``_most`` are
            the extremes over the rounds. Missing where not measured.
        remarks: how it was measured, and what is left out or differs, a clause each.
        tables: costs by row of the leaderboards, one table per base model.
    """

    cells: pd.DataFrame
    remarks: tuple[str, ...]
    tables: tuple[Table, ...]


def read_profiles(paths: Sequence[Path], store: Store) -> tuple[Profile, ...]:
    """Read profiles; without names, the one in the store's folder ``profile``, if it exists.

    Raises:
        UserError: a profile cannot be read, or two are of the same base model.
    """
    own = store.root / PROFILE_FOLDER
    found = [read_profile(path) for path in paths or ([own] if (own / PROFILE).is_file() else [])]
    names = [profile.base_model for profile in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"there are two profiles of {twice}; give one --profile per base model")
    return tuple(found)


def match_profiles(cells: pd.DataFrame, profiles: Sequence[Profile]) -> Profiled:
    """Assign the costs in profiles, at most one per base model, to the cells of a summary.

    Args:
        cells: the summary.
        profiles: as returned by `read_profiles`, at least one.
    """
    scored = cells[cells["mean"].notna()]
    parts = [_Part.of(scored[scored["base_model"] == profile.base_model], profile) for profile in profiles]
    remarks = [remark for part in parts for remark in part.remarks()]
    known = [profile.base_model for profile in profiles]
    if refused := sorted(set(scored["base_model"]) - set(known)):
        verb = "profile is" if len(known) == 1 else "profiles are"
        remarks.append(f"no costs of {', '.join(refused)}: the {verb} of {', '.join(known)}")
    return Profiled(
        pd.concat([part.cells for part in parts]),
        tuple(remarks),
        tuple(part.table() for part in parts if len(part.cells)),
    )


@dataclass(frozen=True)
class _Part:
    """One profile and the cells of its base model.

    Attributes:
        cells: the cells whose cost it has.
        rows: the row of the profile of each of these cells.
        lacking: by reason, the rows of the leaderboards whose cost it lacks.
    """

    profile: Profile
    batch: int
    trained: tuple[int, ...]
    cells: pd.DataFrame
    rows: list[CandidateRow]
    lacking: dict[str, list[str]]

    @classmethod
    def of(cls, cells: pd.DataFrame, profile: Profile) -> _Part:
        batches = (json.loads(text).get("batch_size") for text in cells["training"])
        trained = sorted({size for size in batches if isinstance(size, int)})
        batch = next((size for size in profile.batches if size in trained), profile.batches[0])
        choices = [row for row in rows_of(profile) if row.batch == batch and row.candidate.method is not None]
        places: list[int] = []
        rows: list[CandidateRow] = []
        lacking: dict[str, list[str]] = {}
        for place, (_, cell) in enumerate(cells.iterrows()):
            found = _row_of(cell, choices, profile.workload.dtype)
            if isinstance(found, CandidateRow):
                places.append(place)
                rows.append(found)
            elif found.label not in lacking.setdefault(found.reason, []):
                lacking[found.reason].append(found.label)
        return cls(profile, batch, tuple(trained), _costed(cells.iloc[places], rows), rows, lacking)

    def remarks(self) -> Iterator[str]:
        if not len(self.cells):
            if not self.lacking:
                yield f"a profile is of {self.profile.base_model}, which no leaderboard has"
        else:
            yield from self._circumstances()
        for reason, labels in self.lacking.items():
            yield f"{reason}: {', '.join(labels)}"
        for names, labels in self._differences().items():
            yield f"of the same size in the profile, differing in {names}: {', '.join(labels)}"

    def table(self) -> Table:
        """Return the costs, one line per row of the leaderboards and setting of the profile."""
        lines = {(str(label), row.size): row for label, row in zip(self.cells["row"], self.rows, strict=True)}
        reference = reference_of(self.profile)
        of_which = f" ({reference.size})" if reference and reference.size else ""
        return Table(
            ("method", "profiled at", f"step, as a multiple of LoRA's{of_which}", "peak memory of training (MiB)"),
            tuple(
                (label, size or NOTHING, _range(row.to_reference, 1, 2), _range(row.training_peak, 2**20, 0))
                for (label, size), row in lines.items()
            ),
            caption=self.profile.base_model,
        )

    def _circumstances(self) -> Iterator[str]:
        on_device = any(row.peak_device is not None for row in self.rows)
        yield (
            "costs come from a profile measured separately from the scored runs, of "
            f"{conditions(self.profile, (self.batch,))}; "
            f"memory is that of the {'accelerator' if on_device else 'process'}"
        )
        if readers := sorted({str(row.candidate.method) for row in self.rows if SPECIALISE in row.timings}):
            tokens = self.profile.workload.system_prompt_tokens
            yield f"with system prompts of {tokens} tokens for the examples of {', '.join(readers)} only"
        if self.trained and self.trained != (self.batch,):
            yield f"the scored runs have batches of {', '.join(map(str, self.trained))}"
        if self.profile.warning:
            yield f"warning of the profile: {self.profile.warning}"

    def _differences(self) -> dict[str, list[str]]:
        """Return the rows of the leaderboards that differ from the profile's, by the hyper-parameters that differ."""
        found: dict[str, set[str]] = {}
        for label, setting, row in zip(self.cells["row"], self.cells["setting"], self.rows, strict=True):
            one, other = _costly(json.loads(setting)), _costly(row.candidate.setting)
            names = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
            found.setdefault(str(label), set()).update(names)
        alike: dict[str, list[str]] = {}
        for label, names in found.items():
            if names:
                alike.setdefault(", ".join(sorted(names)), []).append(label)
        return alike


@dataclass(frozen=True)
class _Lack:
    """Why a profile has no cost for a row of the leaderboards, and the name to show for it."""

    reason: str
    label: str


def _row_of(cell: Any, choices: Iterable[CandidateRow], precision: str) -> CandidateRow | _Lack:
    """Return the row of a profile with a cell's method and size, or why there is none.

    Args:
        cell: of a summary.
        choices: rows of the profile.
        precision: of the base weights in the profile.
    """
    # A profile in bfloat16 is shown with runs in float32 as well, and is called so.
    if cell["base_precision"] != precision and {cell["base_precision"], precision} & set(QUANTISED):
        return _Lack(f"not profiled with base weights in {cell['base_precision']}", cell["row"])
    of_method = [row for row in choices if row.candidate.method == cell["method"]]
    if not of_method:
        return _Lack("not in the profile", cell["row"])
    setting = json.loads(cell["setting"])
    alike = [row for row in of_method if _is_as_large(row, setting, cell["ledger/reported"])]
    # A row that is identical in everything comes first.
    alike.sort(key=lambda row: _costly(row.candidate.setting) != _costly(setting))
    measured = [row for row in alike or of_method if row.training_peak is not None]
    if not measured:
        reason = (alike or of_method)[0].reason
        return _Lack(f"not measured in the profile ({reason})", cell["row"])
    if not alike:
        sizes = " and ".join(dict.fromkeys(_other_size(row, setting, cell["ledger/reported"]) for row in measured))
        return _Lack("in the profile only at another size", f"{cell['row']} ({sizes})")
    return measured[0]


def _other_size(row: CandidateRow, setting: Json, reported: Any) -> str:
    name, _, size = row.size.partition("=")
    ran = str(setting.get(name))
    if name and ran != size:
        return f"{row.size}, and not {ran}"
    return f"{row.ledger.reported:,} parameters, and not {reported:,}" if row.ledger else "of unknown size"


def _is_as_large(row: CandidateRow, setting: Json, reported: Any) -> bool:
    """Return whether a row of a profile has a setting's size, in the method's own unit and as counted."""
    name, _, size = row.size.partition("=")
    same = not name or str(setting.get(name)) == size
    return same and row.ledger is not None and (bool(pd.isna(reported)) or row.ledger.reported == reported)


def _costly(setting: Json) -> Json:
    """Return the hyper-parameters that may affect the cost of a step, which learning rates do not."""
    return {name: value for name, value in setting.items() if "learning_rate" not in name}


def _costed(cells: pd.DataFrame, rows: Sequence[CandidateRow]) -> pd.DataFrame:
    spreads = {STEP: [row.to_reference for row in rows], MEMORY: [row.training_peak for row in rows]}
    return cells.assign(
        **{
            name + end: pd.Series(
                [getattr(one, number) if one else None for one in found], index=cells.index, dtype="float64"
            )
            for name, found in spreads.items()
            for end, number in _ENDS.items()
        }
    )


def _range(spread: Spread | None, unit: int, places: int) -> str:
    if spread is None:
        return NOTHING
    least, median, most = (f"{value / unit:,.{places}f}" for value in (spread.low, spread.median, spread.high))
    return median if spread.rounds < 2 else f"{median} ({least}-{most})"
