"""What was declared before it was run: the claims that the runs of a store were planned for.

A declaration is written when the runs of a claim are planned. It holds the claim's content and the time, so that a
reader of the store sees whether a claim was changed after its runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from parbench.bench.record.run_spec import Json, digest
from parbench.bench.store.layout import DECLARATIONS, LOCK
from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.file_lock import file_lock
from parbench.bench.util.files import explained, write_atomically

_DIGITS = 16
_MOST_BYTES = 2**20


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Declaration:
    """A version of a claim whose runs were planned in a store.

    Attributes:
        name: of the claim.
        sha256: of its content.
        declared: when its runs were planned for the first time, in UTC as ISO 8601.
        content: the claim, as in its YAML file.
        runs: ids of the runs, as they were planned last, by side of the claim.
    """

    name: str
    sha256: str
    declared: str
    content: Json
    runs: Mapping[str, tuple[str, ...]]

    @property
    def time(self) -> datetime:
        """When its runs were planned for the first time."""
        return datetime.fromisoformat(self.declared)


def declare(store: Store, name: str, content: Json, runs: Mapping[str, Sequence[str]]) -> Declaration:
    """Record that the runs of a claim are planned; the time of a version that is known already stays.

    Args:
        store: where the runs will be.
        name: of the claim.
        content: the claim, as in its YAML file.
        runs: their ids by side of the claim.

    Raises:
        UserError: the store cannot be written to.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    made = Declaration(name, digest(content), now, content, {side: tuple(ids) for side, ids in runs.items()})
    return keep(store, made)


def keep(store: Store, made: Declaration) -> Declaration:
    """Write a declaration into a store; of one that is known already the earlier time stays.

    Raises:
        UserError: the store cannot be written to.
    """
    folder = store.root / DECLARATIONS
    path = folder / file_name(made)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(store.root / LOCK):
            known = _read(path) if path.exists() else None
            if isinstance(known, Declaration) and known.time <= made.time:
                made = replace(made, declared=known.declared)
            if made != known:
                write_atomically(path, json.dumps(asdict(made), indent=1, ensure_ascii=False) + "\n")
    return made


def file_name(made: Declaration) -> str:
    """Return the name of the file of a declaration."""
    return f"{made.name}-{made.sha256[:_DIGITS]}.json"


def read_declarations(store: Store) -> Iterator[Declaration | Unreadable]:
    """Yield the declarations of a store by name and time, and the files that are none."""
    folder = store.root / DECLARATIONS
    if not folder.is_dir():
        return
    found = [_read(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    yield from sorted((one for one in found if isinstance(one, Declaration)), key=lambda one: (one.name, one.time))
    yield from (one for one in found if isinstance(one, Unreadable))


def _read(path: Path) -> Declaration | Unreadable:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return Unreadable(path, "is not a declaration")
        values = json.loads(path.read_text(encoding="utf-8"))
        found = TypeAdapter(Declaration).validate_python(values)
        time = found.time
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        return Unreadable(path, f"is not a declaration ({type(error).__name__})")
    if time.tzinfo is None or found.sha256 != digest(found.content) or path.name != file_name(found):
        return Unreadable(path, "was changed after it was written")
    return found
