"""A recommendation in words: tables and sentences, each with the evidence that it is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from parbench.bench.util.base_precision import BasePrecision
from parbench.reports.recommend.options import SAME, Amount, Option, ShortList, rate_to_begin, size_text
from parbench.reports.recommend.quality import Quality
from parbench.reports.recommend.validation import LeftOutTask, Validation
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import Estimate
from parbench.reports.tables import NOTHING, Table, with_interval
from parbench.reports.words import grouped, listed, plural

_MARKS = {"measured": "", "predicted": "", "counted": "", "extrapolated": "~"}
# In the order of `Costs.amounts`, of one method and of several.
_LEAST = (
    ("takes the least memory", "take the least memory"),
    ("has the fastest step", "have the fastest step"),
    ("has the smallest adapter", "have the smallest adapter"),
)


@dataclass(frozen=True)
class Words:
    """What a recommendation says.

    Attributes:
        table: the short list.
        sentences: how to read it, what cannot be told apart, and what is not on it.
    """

    table: Table
    sentences: tuple[str, ...]


def in_words(found: Quality, chosen: ShortList, baseline: str, here: str) -> Words:
    """Return the short list as a table, and what there is to say of it.

    Args:
        found: how good the methods are.
        chosen: the short list.
        baseline: what step times are a multiple of.
        here: this machine, in words.
    """
    head = (
        "method",
        _quality_head(found),
        "memory",
        f"step (x {baseline})",
        "adapter",
        "learning rate",
        "setting from",
    )
    rows = tuple(_line(option, found) for option in chosen.options)
    sentences = [
        *_evidence(found),
        *_told(found, chosen),
        *_legend(found, chosen),
        *_times(chosen, here),
        *_left(chosen),
    ]
    return Words(Table(head, rows), tuple(sentences))


def _quality_head(found: Quality) -> str:
    if len(found.evidence) > 1:
        return f"mean rank on {len(found.evidence)} other tasks"
    one = found.evidence[0]
    where = "" if found.basis == "measured" else f" on {one.name}"
    return f"{one.metric}{where}{one.column.unit.mark}"


def _line(option: Option, found: Quality) -> tuple[str, ...]:
    step = option.costs.step
    seconds = "" if step is None or step.seconds is None else f" ({1e3 * step.seconds:,.0f} ms)"
    return (
        option.row,
        _quality(option, found),
        _bytes(option.costs.memory),
        NOTHING if step is None else f"{_MARKS[step.ratio.origin]}{step.ratio.value:.2f}{seconds}",
        _bytes(option.costs.adapter),
        _rate(option),
        found.cell_of(option.row)[0].name,
    )


def _quality(option: Option, found: Quality) -> str:
    if len(found.evidence) == 1:
        column = found.evidence[0].column
        shown = column.standings[option.row].estimate
        low, high = (shown.interval.low, shown.interval.high) if shown.interval else (None, None)
        return f"{with_interval(column.unit, shown.mean, low, high)} (n={shown.n})"
    rank = found.over_tasks.mean_ranks.get(option.row)
    if rank is None:
        return f"better than {option.quality:.0%} of the others on {option.on_tasks}"
    expected = found.over_tasks.on_new_task.get(option.row)
    interval = "" if expected is None else f", {expected.low:.1f} to {expected.high:.1f} on a new task"
    return f"{rank:.1f}{interval}"


def _rate(option: Option) -> str:
    """Return the learning rate to begin with: the geometric mean of the tuned ones, or of all where none was tuned."""
    tuned = [rate for rate, is_tuned in option.rates.values() if is_tuned]
    rates = tuned or [rate for rate, _ in option.rates.values()]
    if not rates:
        return NOTHING
    how = "tuned" if tuned else "not tuned"
    spread = f", {min(rates):.2g} to {max(rates):.2g}" if max(rates) > 1.01 * min(rates) else ""
    return f"{rate_to_begin(option):.2g} ({how}{spread})"


def _bytes(amount: Amount | None) -> str:
    return NOTHING if amount is None else f"{_MARKS[amount.origin]}{size_text(amount.value)}"


def _evidence(found: Quality) -> Iterator[str]:
    if found.basis == "measured":
        (one,) = found.evidence
        yield f"Evidence: {one}, {one.conditions}."
        if unlearnt := sorted(set(one.column.standings) - set(one.learnt)):
            yield f"Not better than a constant answer: {listed(unlearnt)}."
        if failed := sorted(set(one.cells) - set(one.column.standings)):
            yield f"Without a score, because their runs failed: {listed(failed)}."
        return
    yield (
        f"Nothing is known of two methods on this task with this base model: EXTRAPOLATED from "
        f"{listed([str(one) for one in found.evidence], most=4)}."
    )
    kinds = {one.kind or "unknown" for one in found.evidence}
    if len(kinds) > 1:
        yield f"These are tasks of other kinds, which say little: {listed(sorted(kinds))}."


def _told(found: Quality, chosen: ShortList) -> Iterator[str]:
    """Yield which options cannot be told apart from the first, and which are shown to be worse than it."""
    if not chosen.options:
        return
    rows = [option.row for option in (*chosen.options, *(left.option for left in chosen.left))]
    first = max(rows, key=lambda row: (found.values[row], row))
    worse = [row for row in found.rows if (first, row) in found.better]
    level = [row for row in found.rows if row != first and row not in worse]
    if level:
        why = f" ({found.why_not_told})" if found.why_not_told else ""
        yield f"Cannot be told apart from {first}, the first: {listed(level)}{why}."
        if cheapest := _cheapest(chosen, {first, *level}):
            yield f"Of these, on the list, {cheapest}."
    if worse:
        yield f"Shown to be worse than {first}: {listed(worse)}."


def _cheapest(chosen: ShortList, level: set[str]) -> str:
    """Return which of several options have the least of each cost; nothing where none costs less than the others."""
    rows = [option for option in chosen.options if option.row in level]
    found = []
    for place, (of_one, of_several) in enumerate(_LEAST):
        known = {one.row: amount.value for one in rows if (amount := one.costs.amounts()[place]) is not None}
        least = [row for row, value in known.items() if value <= (1 + SAME) * min(known.values())]
        if len(least) < len(known):
            found.append(f"{listed(least)} {of_one if len(least) == 1 else of_several}")
    return listed(found)


def _legend(found: Quality, chosen: ShortList) -> Iterator[str]:
    yield (
        "Memory of training is predicted from the shapes of this base model, and the adapter's file is counted on it; "
        "both are of the setting in the records."
    )
    if found.over_tasks.on_new_task:
        held = [(one.held, one.tasks) for one in found.over_tasks.on_new_task.values()]
        yield (
            f"On a new task: {LEVEL:.0%} prediction interval of the rank, for a task like these; left out in turn, it "
            f"held {sum(a for a, _ in held)} of {sum(b for _, b in held)} ranks."
        )
    unknown = grouped((o.costs.why_no_memory, o.row) for o in chosen.options if o.costs.why_no_memory)
    for why, rows in unknown.items():
        yield f"Memory not known of {listed(rows)}: {why}."


def _times(chosen: ShortList, here: str) -> Iterator[str]:
    """Yield where the times of steps are from, and how long training takes where that was measured."""
    steps = [option.costs.step for option in chosen.options if option.costs.step]
    if any(step.ratio.origin == "extrapolated" for step in steps):
        yield (
            "~: a step's time relative to the baseline's is extrapolated from the evidence; bench plan measures what "
            "runs take here."
        )
    for there in dict.fromkeys(step.hardware for step in steps if step.hardware):
        yield f"Steps were measured on {there}: {'this machine' if there == here else f'this machine has {here}'}."
    first = chosen.options[0] if chosen.options else None
    count = first.training.get("max_steps") if first else None
    if first and first.costs.step and first.costs.step.seconds is not None and isinstance(count, int):
        yield (
            f"{count:,} steps of {first.row}, as in the records, take {first.costs.step.seconds * count / 60:,.1f} min "
            "there, without loading and scoring."
        )


def _left(chosen: ShortList) -> Iterator[str]:
    for why, rows in grouped((left.why, left.option.row) for left in chosen.left).items():
        yield f"Not on the list: {listed(rows)}: {why}."


def in_fewer_bits(option: Option, sizes: Mapping[BasePrecision, Amount | str], limit: int) -> str:
    """Return what training an option takes on base weights of fewer bits, as a sentence.

    Args:
        option: the option.
        sizes: its memory, or why that is not known, by precision.
        limit: bytes that training may take.
    """
    known = {name: size.value for name, size in sizes.items() if isinstance(size, Amount)}
    if not known:
        return f"Base weights of fewer bits: not known ({next(iter(sizes.values()))})."
    shown = listed([f"{name} {size_text(value)}" for name, value in known.items()])
    fitting = [name for name, value in known.items() if value <= limit]
    advice = (
        f"whether {option.method} works on them, and how well, shows a run with --base-precision {fitting[0]}"
        if fitting
        else "none of them fits; give a smaller --batch or --seq, or another --model"
    )
    return f"On base weights of fewer bits {option.row} would take, predicted: {shown}; {advice}."


def validation_in_words(found: Validation) -> Words:
    """Return what following the recommendation would have cost, task by task and in the mean."""
    head = ("left out", "recommended", "from", "best there", "regret", "interval", "shown to be worse")
    return Words(Table(head, tuple(map(_left_out, found.tasks))), tuple(_regrets(found)))


def _left_out(one: LeftOutTask) -> tuple[str, ...]:
    if one.recommended is None or one.regret is None:
        return (one.evidence.name, NOTHING, one.reason or "", one.best, NOTHING, NOTHING, NOTHING)
    unit = one.evidence.column.unit
    interval = NOTHING
    if one.comparison is not None and one.comparison.interval is not None:
        sign = 1 if one.comparison.a == one.best else -1
        low, high = sorted(sign * end for end in (one.comparison.interval.low, one.comparison.interval.high))
        interval = f"[{unit.text(low, sign=True)}, {unit.text(high, sign=True)}]"
    kind = "" if one.same_kind else " of other kinds"
    return (
        one.evidence.name,
        one.recommended,
        f"{one.tasks} {plural('task', one.tasks)}{kind}",
        one.best,
        unit.text(one.regret),
        interval,
        "yes" if one.is_shown_worse else "no",
    )


def _regrets(found: Validation) -> Iterator[str]:
    followed = [one for one in found.tasks if one.recommended is not None]
    if not followed or found.regret is None:
        yield "No task could be left out: it takes two tasks with methods in common, scored in points."
        return
    worse = sum(one.is_shown_worse for one in followed)
    yield (
        f"Mean regret of following the recommendation: {_points(found.regret)}; on {worse} of {len(followed)} tasks "
        "some method is shown to be better."
    )
    if found.baseline is not None:
        yield f"Of always taking lora: {_points(found.baseline)}."
    if found.any_method is not None:
        yield f"Of a method taken at random: {_points(found.any_method)}."
    yield (
        "Regret: the best mean on the task less that of the recommended method. The best of several means is too high "
        "by chance, and so is a regret where methods are level."
    )


def _points(mean: Estimate) -> str:
    text = f"{100 * mean.mean:.1f} points"
    if mean.interval is None:
        return f"{text} (no interval from {mean.n} {plural('task', mean.n)})"
    return f"{text} [{100 * mean.interval.low:.1f}, {100 * mean.interval.high:.1f}] over {mean.n} tasks"
