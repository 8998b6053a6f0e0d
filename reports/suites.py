"""What is known of the suites that the runs of a store belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from parbench.bench.plan.suite import Suite, load_suite, suite_names
from parbench.bench.store.layout import TUNED
from parbench.bench.util.errors import UserError

_TUNED_SUFFIX = "-tuned"


def read_suites(names: Iterable[str], root: Path) -> Mapping[str, Suite]:
    """Return the suites of these names that can be found, by name.

    A suite is found where parbench comes with it, or where `bench tune` wrote it into the store. Records hold the name
    of their suite alone: a suite of the user's own is unknown here. With a tuned suite comes the one that it is named
    after.

    Args:
        names: of suites, as records hold them.
        root: the folder of the store.
    """
    known = [*_tuned(root / TUNED), *(load_suite(name) for name in suite_names())]
    by_name = {suite.name: suite for suite in reversed(known)}
    wanted = dict.fromkeys(same for name in names for same in (name, plain_name(name)))
    return {name: by_name[name] for name in wanted if name in by_name}


def plain_name(name: str) -> str:
    """Return the name of the suite that a tuned one was made from; of another its own."""
    return name.removesuffix(_TUNED_SUFFIX)


def limits_of(names: Iterable[str], suites: Mapping[str, Suite]) -> Sequence[str]:
    """Return what the suites of these names cannot show, each sentence once.

    Args:
        names: of the suites of a leaderboard; a tuned suite has the limits of the one that it was tuned from.
        suites: of `read_suites`.
    """
    found = (suites.get(name) or suites.get(plain_name(name)) for name in names)
    return tuple(dict.fromkeys(suite.cannot_show for suite in found if suite))


def _tuned(path: Path) -> Iterator[Suite]:
    try:
        yield load_suite(str(path))
    except UserError:  # there is none, or one of another version: its runs are reported without what it holds
        return
