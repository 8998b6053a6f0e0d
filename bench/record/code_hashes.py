"""The source code that decides a run's result, as hashes. Together with `parbench.tasks.task_code` they cover:

* all of `parbench.bench.train` and `parbench.bench.models`;
* the method and the task, each with everything that it imports;
* how data is located and read, models applied and forgetting measured: `parbench.tasks.data.location`,
  `parbench.tasks.inference`, `parbench.tasks.retention`, each with everything that it imports;
* the modules of `parbench.bench.util` that any of these import.

Not covered, because they decide no result: the command line, plans (what they decide is in the spec), stores,
executors, reports, profiles. Versions of libraries are in a record's provenance.
"""

from __future__ import annotations

from parbench.bench.util.source_hash import source_hash
from parbench.methods.expression import ResolvedMethod

_HARNESS = (
    "parbench.bench.train.*",
    "parbench.bench.models.*",
    "parbench.tasks.data.location",
    "parbench.tasks.inference",
    "parbench.tasks.retention",
)
_ROOMS = ("parbench.bench.train", "parbench.bench.models", "parbench.methods", "parbench.tasks")


def method_code(choice: ResolvedMethod) -> str:
    """Return the hash of the source of a method, 16 digits per module that it is registered in."""
    return "".join(source_hash(module) for module in choice.modules)


def harness_code() -> str:
    """Return the hash of the source that loads, trains and evaluates."""
    return source_hash(*_HARNESS, rooms=_ROOMS)
