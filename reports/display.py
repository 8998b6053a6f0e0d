"""What the rows and columns of a report are called, and in which order its rows stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.yaml import read_yaml
from parbench.reports.frame import Frame
from parbench.reports.tables import row_key

BY_RANK = "rank"


@dataclass(frozen=True)
class Display:
    """How a report is to look.

    Attributes:
        names: display names by method, row or task.
        order: methods or rows that stand first, in this order; ``("rank",)`` orders rows by their mean rank.
        baseline: the method or row that the others are compared with.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    baseline: str | None = None

    @property
    def by_rank(self) -> bool:
        """Whether rows stand in the order of their mean rank."""
        return self.order == (BY_RANK,)


DEFAULT = Display()


def read_names(text: str) -> Mapping[str, str]:
    """Return display names, given as ``lora=LoRA,glue/sst2=SST-2`` or as the path of a YAML file with a mapping.

    Raises:
        UserError: it is neither.
    """
    path = Path(text).expanduser()
    if path.suffix in (".yaml", ".yml"):
        try:
            content = read_yaml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f'--names: "{text}" cannot be read ({error})') from error
        if not isinstance(content, Mapping) or not all(isinstance(value, str) for value in content.values()):
            raise UserError(f'--names: "{text}" is not a mapping of names to display names')
        return {str(name): str(value) for name, value in content.items()}
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or not all(equals and name.strip() and value.strip() for name, equals, value in pairs):
        raise UserError(f'--names is "{text}"; give NAME=DISPLAY,NAME=DISPLAY or a YAML file')
    return {name.strip(): value.strip() for name, _, value in pairs}


def displayed(frame: Frame, display: Display) -> Frame:
    """Return a frame whose rows and columns have their display names and places.

    Raises:
        UserError: a name is of no method, row or task, or two rows of a leaderboard would have one name.
    """
    known = {str(name) for column in ("method", "row", "task") for name in frame.runs[column].unique()}
    order = () if display.by_rank else display.order
    for option, names in (("--names", display.names), ("--order", order)):
        for name in names:
            if name not in known:
                raise UserError(
                    f'{option}: there is no method or task "{name}" in this store{did_you_mean(name, known)}'
                )
    runs = _displayed(frame.runs, display.names, order)
    for column, of in (("row", ["board"]), ("column", ["board", "metric"])):
        pairs = pd.DataFrame({"old": frame.runs[column], "new": runs[column], **{name: runs[name] for name in of}})
        shown = Counter(pairs.drop_duplicates()[["new", *of]].itertuples(index=False, name=None))
        if twice := [str(key[0]) for key, count in shown.items() if count > 1]:
            raise UserError(
                f'--names: several {column}s of a leaderboard would be called "{twice[0]}"; give each its own'
            )
    return replace(frame, runs=runs, aside=_displayed(frame.aside, display.names, order))


def _displayed(runs: pd.DataFrame, names: Mapping[str, str], order: Sequence[str]) -> pd.DataFrame:
    if runs.empty:
        return runs
    distinct = (row for _, row in runs.drop_duplicates(["method", "row"]).iterrows())
    own = {str(row["row"]): place for place, row in enumerate(sorted(distinct, key=row_key))}
    # Rows that are not asked for keep the order of the names that they had.
    places = [
        _place(order, (str(row), str(method))) * len(own) + own[str(row)]
        for row, method in zip(runs["row"], runs["method"], strict=True)
    ]
    rows = _renamed(runs["row"], runs["method"], names)
    return runs.assign(row=rows, column=_renamed(runs["column"], runs["task"], names), row_order=places)


def _place(order: Sequence[str], names: Iterable[str]) -> int:
    found = [order.index(name) for name in names if name in order]
    return min(found, default=len(order))


def _renamed(labels: pd.Series[str], bases: pd.Series[str], names: Mapping[str, str]) -> pd.Series[str]:
    """Return labels that begin with their method or task by its display name, or have one of their own."""
    pairs = zip(labels.astype("str"), bases.astype("str"), strict=True)
    found = [
        names[label] if label in names else names[base] + label.removeprefix(base) if base in names else label
        for label, base in pairs
    ]
    return pd.Series(found, index=labels.index, dtype="str")
