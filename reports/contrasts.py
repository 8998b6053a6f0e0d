"""Two methods of one store, or what two stores have in common: scores, tests, and differences of specs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.reports.constant import DID_NOT_LEARN, has_learnt
from parbench.reports.examples import KnownLayouts
from parbench.reports.frame import Frame, read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.repeats import floors, repeats
from parbench.reports.rows import COLUMN, CONDITION, at_same, column_labels
from parbench.reports.scored import LEVEL, Scored, compare_pair, corrected, score_column
from parbench.reports.spec_differences import Difference, spec_differences
from parbench.reports.statistics import Comparison, estimate
from parbench.reports.tables import NOTHING, SMALL_LABEL, Table, boards, distinct, is_counted, percent, title, unit_of
from parbench.tasks.metrics.units import Unit


@dataclass(frozen=True)
class Contrast:
    """The two sides on one task of one leaderboard.

    Attributes:
        board: title of the leaderboard.
        label: a sentence that must stand wherever the numbers stand, or ``None``.
        task: its name.
        metric: the primary one.
        share: of the training split; contrasts of one share are corrected as one family.
        rows: of the leaderboard that the two sides are.
        method: the row that is compared, where one store is compared with another; ``None`` else.
        mean_a: mean score of the first side.
        mean_b: of the second.
        unit: of the metric.
        comparison: their difference, first minus second, corrected.
    """

    board: str
    label: str | None
    task: str
    metric: str
    share: float
    rows: tuple[str, str]
    method: str | None
    mean_a: float
    mean_b: float
    unit: Unit
    comparison: Comparison


@dataclass(frozen=True)
class Contrasts:
    """A comparison of two sides.

    Attributes:
        a: name of the first side.
        b: name of the second.
        contrasts: task by task.
        differences: what differs in specs, code, revisions, versions and hardware.
        notes: what could not be compared, and how to read the numbers.
        unreadable: records that are left out.
    """

    a: str
    b: str
    contrasts: tuple[Contrast, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def scores(self) -> Table:
        """The contrasts as a table."""
        head = ("task", "method", self.a, self.b, "difference", "interval", "p (corrected)", "better")
        rows = [head, *(self._line(contrast) for contrast in self.contrasts)]
        if all(contrast.method is None for contrast in self.contrasts):
            rows = [(line[0], *line[2:]) for line in rows]
        return Table(rows[0], tuple(rows[1:]))

    @property
    def specs(self) -> Table:
        """The differences as a table."""
        return Table(("what differs", self.a, self.b), tuple((one.what, one.a, one.b) for one in self.differences))

    @staticmethod
    def _line(contrast: Contrast) -> tuple[str, ...]:
        found, unit = contrast.comparison, contrast.unit
        interval = p_value = NOTHING
        if found.interval:
            interval = f"[{unit.text(found.interval.low, sign=True)}, {unit.text(found.interval.high, sign=True)}]"
        if found.adjusted_p_value is not None:
            p_value = f"{found.adjusted_p_value:.3g}"
        return (
            f"{contrast.task} ({contrast.metric}{unit.mark})",
            contrast.method or NOTHING,
            f"{unit.text(contrast.mean_a)} (n={found.n_a})",
            f"{unit.text(contrast.mean_b)} (n={found.n_b})",
            unit.text(found.difference, sign=True),
            interval,
            p_value,
            found.better(1 - LEVEL) or _undecided(found),
        )


def _undecided(found: Comparison) -> str:
    if found.adjusted_p_value is None:
        return "not tested"
    return "within the noise floor" if found.is_noise else "not known"


@dataclass(frozen=True)
class _Side:
    """The runs of one side, and the frame that they are from."""

    name: str
    frame: Frame
    runs: pd.DataFrame


def contrast_methods(store: Store, a: str, b: str) -> Contrasts:
    """Compare two methods of one store, on every task of every leaderboard that has both.

    Args:
        store: what to read.
        a: a method, or a row of a leaderboard where the method has several, such as ``lora (rank=4)``.
        b: the other.

    Raises:
        UserError: there is no such method, it has several rows on a leaderboard, or there is no common task.
    """
    frame = read_frame(store)
    first, second = (_Side(name, frame, _runs_of(frame, name)) for name in (a, b))
    return _contrasts(first, second, by_method=False)


def contrast_stores(a: Store, b: Store, method: str | None = None) -> Contrasts:
    """Compare two stores on every task of every leaderboard that both have, method by method.

    Args:
        a: the first store.
        b: the second.
        method: only this method, or this row of a leaderboard.

    Raises:
        UserError: a store holds nothing, there is no such method, or there is nothing in common.
    """
    known: KnownLayouts = {}
    frames = _named_alike([read_frame(store, known) for store in (a, b)])
    names = _names_of(a, b)
    first, second = (
        _Side(name, frame, frame.runs if method is None else _runs_of(frame, method))
        for name, frame in zip(names, frames, strict=True)
    )
    return _contrasts(first, second, by_method=True)


def _named_alike(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames with the same names for the same columns; alone, each distinguishes only its own options."""
    every = pd.concat([runs for frame in frames for runs in (frame.runs, frame.aside)], ignore_index=True)
    labels = dict(zip(every["run_id"], column_labels(every), strict=True))

    def named(runs: pd.DataFrame) -> pd.DataFrame:
        return runs.assign(column=runs["run_id"].map(labels).astype("str"))

    return [replace(frame, runs=named(frame.runs), aside=named(frame.aside)) for frame in frames]


def _contrasts(a: _Side, b: _Side, by_method: bool) -> Contrasts:
    contrasts: list[Contrast] = []
    used: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    notes: list[str] = []
    cells = [_cells(side.runs, by_method) for side in (a, b)]
    repeated = pd.concat([repeats(frame) for frame in {id(side.frame): side.frame for side in (a, b)}.values()])
    for key in [key for key in cells[0] if key in cells[1]]:
        parts = [found[key] for found in cells]
        for rows, part in zip(used, parts, strict=True):
            rows.append(part)
        contrasts.append(_contrast(key, (a, b), parts, repeated))
    for side, own, other in ((a, cells[0], cells[1]), (b, cells[1], cells[0])):
        if lacking := [key for key in own if key not in other]:
            places = dict.fromkeys(f"{row} on {task}" if row else task for _, task, _, row in lacking)
            notes.append(f"Only {side.name} has a score of {', '.join(places)} on such a leaderboard.")
    if not contrasts:
        raise UserError(
            f"{a.name} and {b.name} have no score on a common task with the same base model, protocol, limit and "
            "budget; see what there is with bench report"
        )
    found = tuple(_corrected(contrasts) if by_method else _as_on_leaderboards(contrasts, a.frame))
    notes += sorted({f"{one.task}: {one.comparison.reason}." for one in found if one.comparison.reason})
    notes.append(
        f"Difference: {a.name} minus {b.name}, paired by example and, where the seeds are the same, by seed, with its "
        f"{LEVEL:.0%} interval; p-values are corrected by Holm for "
        f"{f'all {_families(found)}' if by_method else 'all pairs of methods on a task, as on the leaderboard'}."
    )
    if any(one.comparison.noise_floor is not None for one in found):
        notes.append(
            "Within the noise floor: runs of the same seed, repeated, differ by as much, so that neither is better "
            "whatever the p-value."
        )
    differences = tuple(spec_differences(pd.concat(used[0]), pd.concat(used[1])))
    unreadable = dict.fromkeys((*a.frame.unreadable, *b.frame.unreadable))
    return Contrasts(a.name, b.name, found, differences, tuple(notes), tuple(unreadable))


def _corrected(contrasts: Sequence[Contrast]) -> Iterator[Contrast]:
    """Yield contrasts with their p-values corrected: the points of a curve make no family with its end."""
    for share in sorted({contrast.share for contrast in contrasts}, reverse=True):
        family = [contrast for contrast in contrasts if contrast.share == share]
        adjusted = corrected([contrast.comparison for contrast in family])
        yield from (replace(one, comparison=pair) for one, pair in zip(family, adjusted, strict=True))


def _as_on_leaderboards(contrasts: Sequence[Contrast], frame: Frame) -> Iterator[Contrast]:
    """Yield contrasts with the p-values of the leaderboards: a pair of methods has one verdict everywhere."""
    adjusted = {
        (_where(cells), str(name), str(metric), frozenset((pair.a, pair.b))): pair.adjusted_p_value
        for board in leaderboards(frame)
        for (name, metric), cells in board.cells.groupby(COLUMN)
        for column in [board.ranking.columns.get((str(name), str(metric)))]
        for pair in (column.comparisons if column else ())
    }
    for one in contrasts:
        p_value = adjusted.get((one.board, one.task, one.metric, frozenset(one.rows)))
        yield replace(one, comparison=replace(one.comparison, adjusted_p_value=p_value))


def _where(rows: pd.DataFrame) -> str:
    return title(rows) + (" (small suite)" if rows["small"].iloc[0] else "")


def _families(contrasts: Sequence[Contrast]) -> str:
    counts = Counter(contrast.share for contrast in contrasts)
    if len(counts) == 1:
        return f"{len(contrasts)} contrasts"
    listed = ", ".join(f"{count} with {percent(share)}" for share, count in counts.items())
    return f"contrasts of a share of the training split ({listed})"


# A cell of a leaderboard: title, task, metric, and the row where rows are compared with themselves.
_Key = tuple[str, str, str, str | None]


def _cells(runs: pd.DataFrame, by_method: bool) -> dict[_Key, pd.DataFrame]:
    """Return the runs with a score of each cell.

    Raises:
        UserError: a method has several rows where it is to have one.
    """
    found: dict[_Key, pd.DataFrame] = {}
    for board in boards(runs[is_counted(runs)]):
        for (column, metric, row), part in board.groupby([*COLUMN, "row"]):
            where = _where(part)
            key = (where, str(column), str(metric), str(row) if by_method else None)
            if key in found:
                rows = " and ".join(f'"{name}"' for name in distinct(board["row"]))
                raise UserError(f"{part['method'].iloc[0]} has several rows in {where}: {rows}; name one of them")
            found[key] = part
    return found


def _contrast(key: _Key, sides: tuple[_Side, _Side], parts: Sequence[pd.DataFrame], repeated: pd.DataFrame) -> Contrast:
    board, task, metric, method = key
    first, second = (_scored(part, side) for side, part in zip(sides, parts, strict=True))
    same = repeated[at_same(repeated, parts[0].iloc[0], [*CONDITION, *COLUMN])]
    unit = unit_of(parts[0])
    pair = compare_pair(first, second, floors(same).get((task, metric)), unit)
    if method is None:
        pair = _gated(pair, first, second, unit)
    means = [float(one.scores.by_seed.mean()) for one in (first, second)]
    label = SMALL_LABEL if parts[0]["small"].iloc[0] else None
    share = float(parts[0]["train_fraction"].iloc[0])
    rows = (str(parts[0]["row"].iloc[0]), str(parts[1]["row"].iloc[0]))
    return Contrast(board, label, task, metric, share, rows, method, means[0], means[1], unit, pair)


def _gated(pair: Comparison, a: Scored, b: Scored, unit: Unit) -> Comparison:
    """Return the comparison of two methods without a test where one did not learn, as on the leaderboard.

    Two stores are compared all the same: a method that no longer learns is what their comparison must show.
    """
    estimates = {side.scores.method: estimate(side.scores, LEVEL, (unit.low, unit.high)) for side in (a, b)}
    failed = [side.scores.method for side in (a, b) if not has_learnt(estimates[side.scores.method], side.constant)]
    if not failed:
        return pair
    reason = f"{' and '.join(failed)} {DID_NOT_LEARN}: not better with confidence than a constant prediction"
    return replace(pair, p_value=None, interval=None, reason=reason)


def _scored(runs: pd.DataFrame, side: _Side) -> Scored:
    (row,) = runs["row"].unique()
    found = score_column(runs, side.frame.left_out, [row])[row]
    return replace(found, scores=replace(found.scores, method=side.name))


def _runs_of(frame: Frame, name: str) -> pd.DataFrame:
    """Return the runs of a row of the leaderboards, or else of a method."""
    runs = frame.runs
    for column in ("row", "method"):
        if (runs[column] == name).any():
            return runs[runs[column] == name]
    known = {*runs["method"], *runs["row"]}
    refused = f"; refused records: {len(frame.unreadable)}, see bench report" if frame.unreadable else ""
    raise UserError(f'there are no runs of "{name}"{did_you_mean(name, known)}{refused}')


def _names_of(a: Store, b: Store) -> tuple[str, str]:
    names = (a.root.name, b.root.name)
    return names if names[0] != names[1] else (str(a.root), str(b.root))
