"""Pairwise judgments as a table: wins, ties and losses by category, with the interval of the adjusted win rate."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from parbench.bench.record.run_spec import digest
from parbench.bench.store.layout import COMPARISONS
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.bench.util.files import explained, write_atomically
from parbench.reports.pairing import Answered, Pairing
from parbench.reports.render import escape, markdown_table
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import Estimate, Interval, Scores, estimate
from parbench.reports.tables import NOTHING, Table
from parbench.tasks.judge import PairSummary, summarise_pairs
from parbench.tasks.judge.judging import refuse_passing

# In the store: the results, and under `JUDGMENTS` the raw judgments behind them.
JUDGMENTS = "judgments"
FORMAT = 1

_ALL = "all"
_POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True)
class Line:
    """The comparisons of all questions, of a category, or of a seed.

    Attributes:
        of: ``all``, the category, or ``seed 1``.
        counts: of wins, ties and losses.
        interval: of the adjusted win rate, over questions; for these models as they were trained.
        reason: why there is no interval.
    """

    of: str
    counts: PairSummary
    interval: Interval | None
    reason: str | None


@dataclass(frozen=True)
class Judged:
    """Two sides after a judge has compared them.

    Attributes:
        pairing: what was compared.
        judge: everything that determines the judgments, see `parbench.tasks.judge.judge_identity`.
        compared: one row per comparison, see `parbench.tasks.judge.compare_answers`, with its ``seed``.
    """

    pairing: Pairing
    judge: Mapping[str, Any]
    compared: pd.DataFrame

    @property
    def lines(self) -> tuple[Line, ...]:
        """All comparisons, then by category in the order of the questions, and by seed where there are several."""
        found = [_line(_ALL, self.compared)]
        found += [_line(str(name), part) for name, part in self.compared.groupby("category", sort=False)]
        by_seed = [_line(f"seed {seed}", part) for seed, part in self.compared.groupby("seed")]
        return (*found, *(by_seed if len(by_seed) > 1 else ()))

    @property
    def over_seeds(self) -> Estimate:
        """The adjusted win rate over seeds and questions; without an interval for few seeds."""
        return estimate(_by_seed(self.compared), LEVEL, bounds=(0.0, 1.0))

    @property
    def table(self) -> Table:
        """The lines as text."""
        head = ("of", "wins", "ties", "losses", "adjusted win rate", "interval", "inconsistent", "undecided")
        return Table(head, tuple(_texts(line) for line in self.lines))

    @property
    def title(self) -> str:
        """The two sides, the task and the judge."""
        return f"{self.pairing.a.name} against {self.pairing.b.name} on {self.pairing.task}, judged by {self.name}"

    @property
    def name(self) -> str:
        """The judge's model."""
        return str(self.judge["judge"])

    @property
    def served_models(self) -> tuple[str, ...]:
        """The models that the endpoint reports."""
        return tuple(sorted({str(name) for names in self.compared["served_models"] for name in names if name}))

    def notes(self) -> Iterator[str]:
        """Yield how to read the table, and what is missing in it."""
        seeds = ", ".join(map(str, self.pairing.seeds))
        yield (
            f"Wins are those of {self.pairing.a.name} in both orders; orders that disagree are a tie, as in FastChat, "
            "and are counted as inconsistent. In the adjusted win rate (x100) a tie is half a win."
        )
        yield (
            f"Runs of the same seed are compared: {seeds}. Interval: {LEVEL:.0%}, over questions, clustered by "
            "question (turns and seeds); it is conditional on the trained models."
        )
        if reason := self.lines[0].reason:
            yield f"No interval over questions: {reason}."
        over = self.over_seeds
        if over.interval:
            low, high = over.interval.low, over.interval.high
            yield f"Over seeds and questions: {100 * over.mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]."
        else:
            yield f"No interval over seeds and questions: {over.reason}."
        yield from self._missing()
        yield from self._read_otherwise()
        served = ", ".join(self.served_models) or "not reported"
        yield f"Judge {self.name}, served as: {served}; {_sampling(self.judge)}."
        hashes = self.judge["questions"]["hashes"]
        yield f"Questions {self.pairing.questions.origin}; {', '.join(f'{k} {v[:12]}' for k, v in hashes.items())}."
        yield from self.pairing.notes

    def _missing(self) -> Iterator[str]:
        problems = [problem for row in self.compared["problems"] for problem in row]
        counted = Counter(problem for problem in problems if problem)
        if counted:
            by_kind = ", ".join(f"{count} {problem.replace('_', ' ')}" for problem, count in counted.items())
            first = next((f" ({error})" for row in self.compared["errors"] for error in row if error), "")
            undecided = int(self.compared["winner"].isna().sum())
            yield (
                f"{counted.total()} of {len(problems)} judgments have no verdict: {by_kind}{first}; their {undecided} "
                "comparisons are undecided and in no rate."
            )

    def _read_otherwise(self) -> Iterator[str]:
        if count := self.lines[0].counts.read_otherwise:
            yield (
                f"FastChat, which takes [[A]] anywhere before [[B]] and [[C]], reads {count} of "
                f"{2 * len(self.compared)} judgments otherwise; its reading is in the column fastchat."
            )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the single comparisons, ready for JSON."""
        over = self.over_seeds
        return {
            "format": FORMAT,
            "task": self.pairing.task,
            "label": self.pairing.label,
            **{side: _side(answered) for side, answered in (("a", self.pairing.a), ("b", self.pairing.b))},
            "seeds": list(self.pairing.seeds),
            "judge": {**self.judge, "served_models": list(self.served_models)},
            "level": LEVEL,
            "lines": [_numbers(line) for line in self.lines],
            "over_seeds": {"mean": None if math.isnan(over.mean) else over.mean, **_ends(over.interval, over.reason)},
            "notes": list(self.notes()),
        }


def check_judged(judged: Judged) -> None:
    """Check that there are verdicts, and that none is missing for a reason that may pass.

    Raises:
        UserError: there are none, or some are missing for a reason that may pass.
    """
    rows = judged.compared
    refuse_passing(rows, judged.name, "run the command again")
    if rows["winner"].isna().all():
        raise UserError(
            f"the judge {judged.name} has decided none of {len(rows)} comparisons: {next(judged._missing())} Name a "
            "judge that keeps to FastChat's form, [[A]], [[B]] or [[C]]"
        )


def write_judged(judged: Judged, store: Store) -> tuple[Path, ...]:
    """Write the numbers (JSON), the table (Markdown) and all comparisons (parquet) into the store.

    The file names depend on the runs and the judge, and the content on the judgments only.

    Raises:
        UserError: the store cannot be written to.
    """
    pairing, content = judged.pairing, judged.to_json()
    identity = [content["a"], content["b"], content["seeds"], dict(judged.judge)]
    stem = f"{pairing.task.replace('/', '-')}-{digest(identity)[:12]}"
    folder = store.root / COMPARISONS
    parts = [f"# {escape(judged.title)}\n", *([f"**{escape(pairing.label)}**\n"] if pairing.label else [])]
    parts += [markdown_table(judged.table), "".join(f"- {escape(note)}\n" for note in judged.notes())]
    rows = io.BytesIO()
    judged.compared.to_parquet(rows, index=False)
    files: dict[str, str | bytes] = {
        f"{stem}.json": json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        f"{stem}.md": "\n".join(parts),
        f"{stem}.parquet": rows.getvalue(),
    }
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, written in files.items():
            write_atomically(folder / name, written)
    return tuple(folder / name for name in files)


def _line(of: str, compared: pd.DataFrame) -> Line:
    found = _over_questions(compared)
    reason = found if isinstance(found, str) else None
    return Line(of, summarise_pairs(compared), None if isinstance(found, str) else found, reason)


def _over_questions(compared: pd.DataFrame) -> Interval | str:
    """Return the adjusted win rate's t interval with the jackknife's variance over questions, or why there is none.

    Where all questions have the same number of verdicts, it is the interval of the mean of the questions' means.
    """
    points, counts = _by_question(compared)
    n = len(points)
    if n < 2:
        return "fewer than two questions have a verdict"
    left = (points.sum() - points) / (counts.sum() - counts)
    error = math.sqrt((n - 1) / n * float(np.square(left - left.mean()).sum()))
    if error < 1e-12:
        return "all questions have the same result: there is no variation"
    low, high = t.interval(LEVEL, n - 1, loc=points.sum() / counts.sum(), scale=error)
    return Interval(max(0.0, float(low)), min(1.0, float(high)), LEVEL)


def _by_seed(compared: pd.DataFrame) -> Scores:
    """Return each seed's adjusted win rate, and how it varies with the questions."""
    parts = {int(str(seed)): part for seed, part in compared.groupby("seed")}
    asked = compared["question_id"].unique()
    rates, columns = [], []
    for part in parts.values():
        points, counts = _by_question(part)
        rates.append(points.sum() / counts.sum() if len(points) else math.nan)
        columns.append([points.reindex(asked, fill_value=0.0), counts.reindex(asked, fill_value=0.0)])
    by_seed, seeds = np.array(rates), tuple(parts)
    totals = [(points.sum() - points, counts.sum() - counts) for points, counts in columns]
    if len(asked) < 2 or any((counts <= 0).any() for _, counts in totals):
        return Scores(_ALL, seeds, by_seed, np.empty((0, len(seeds))), 0, "a seed has verdicts on too few questions")
    left = np.stack([(points / counts).to_numpy() for points, counts in totals], axis=1)
    deviations = math.sqrt((len(asked) - 1) / len(asked)) * (left - left.mean(axis=0))
    return Scores(_ALL, seeds, by_seed, deviations, len(asked) - 1)


def _by_question(compared: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return points and number of the decided comparisons, by question; of questions that have any."""
    decided = compared[compared["winner"].notna()]
    points = decided["winner"].map(_POINTS).astype("float64").groupby(decided["question_id"], sort=False)
    return points.sum(), points.count().astype("float64")


def _texts(line: Line) -> tuple[str, ...]:
    counts, rate = line.counts, line.counts.win_rate_adjusted
    interval = f"[{100 * line.interval.low:.1f}, {100 * line.interval.high:.1f}]" if line.interval else NOTHING
    return (
        line.of,
        *(f"{count:,}" for count in (counts.wins, counts.ties, counts.losses)),
        NOTHING if rate is None else f"{100 * rate:.1f}",
        interval,
        f"{counts.inconsistent:,}",
        f"{counts.undecided:,}",
    )


def _numbers(line: Line) -> dict[str, Any]:
    counts = line.counts
    rates = {name: getattr(counts, name) for name in ("win_rate", "loss_rate", "win_rate_adjusted")}
    return {"of": line.of, **dataclasses.asdict(counts), **rates, **_ends(line.interval, line.reason)}


def _ends(interval: Interval | None, reason: str | None) -> dict[str, Any]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {"low": low, "high": high, "no_interval": reason}


def _side(answered: Answered) -> dict[str, Any]:
    return {"name": answered.name, "runs": {str(seed): run for seed, run in sorted(answered.runs.items())}}


def _sampling(judge: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in judge.items() if name not in ("judge", "questions")}
    return ", ".join(f"{name} {'not sent' if value is None else value}" for name, value in shown.items())
