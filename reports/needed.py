"""How many seeds and examples a comparison needs, from the variances in a store or from stated defaults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

from parbench.reports.constant import has_learnt
from parbench.reports.frame import Frame
from parbench.reports.rows import BOARD, COLUMN
from parbench.reports.scored import LEVEL, Scored, score_column
from parbench.reports.statistics import MIN_SEEDS, difference_by_seed, estimate
from parbench.reports.statistics.power import (
    NoiseSources,
    detectable,
    examples_needed,
    noise_sources,
    pooled,
    seeds_needed,
)
from parbench.reports.tables import is_counted, unit_of
from parbench.tasks.metrics.units import Unit

# Of two methods where nothing was measured: how far the difference of an accuracy varies between seeds, and on which
# share of the examples one of the two alone is right, half of it by the seed.
DEFAULT_SEED_SD = 0.02
DEFAULT_DISAGREEMENT = 0.15


@dataclass(frozen=True)
class Measured:
    """The sources of the noise of a task's comparisons in a store.

    Attributes:
        sources: pooled over the pairs of methods.
        pairs: number of pairs.
        seeds: the fewest seeds of any pair.
    """

    sources: NoiseSources
    pairs: int
    seeds: int

    def __str__(self) -> str:
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        return f"measured on {pairs} of methods with {self.seeds} seeds or more"


@dataclass(frozen=True)
class Needed:
    """What it takes to see a difference on a task.

    Attributes:
        origin: where the variances are from, in words.
        examples: number of reported examples.
        seeds: number of seeds that are planned.
        seeds_needed: with these examples; ``None`` where no number is enough.
        examples_needed: with these seeds; ``None`` where no number is enough, or the seeds are too few for a test.
        detectable: the difference that seeds and examples as planned find in 80 % of cases, in the metric's unit;
            ``None`` where the seeds are too few for a test.
    """

    origin: str
    examples: int
    seeds: int
    seeds_needed: int | None
    examples_needed: int | None
    detectable: float | None


def measured(frame: Frame, methods: Collection[str] = ()) -> Mapping[tuple[str, str], Measured]:
    """Return the sources of noise by task and base model, of pairs with the same seeds, three or more.

    Where a task was run under several conditions, those of the most pairs count.

    Args:
        frame: of the store.
        methods: pairs of these methods alone, where there are such; by default of all.
    """
    found: dict[tuple[str, str], Measured] = {}
    counted = frame.runs[is_counted(frame.runs)]
    for _, part in counted.groupby([*BOARD, *COLUMN]):
        rows = part.loc[part["method"].isin(methods), "row"].unique() if len(methods) else ()
        chosen = [str(row) for row in (rows if len(rows) > 1 else part["row"].unique())]
        own = _measured(score_column(part, frame.left_out, chosen), unit_of(part))
        first = part.iloc[0]
        key = (str(first["task"]), str(first["base_model"]))
        if own is not None and (key not in found or own.pairs > found[key].pairs):
            found[key] = own
    return found


def _measured(scored: Mapping[str, Scored], unit: Unit) -> Measured | None:
    usable = [
        one
        for one in scored.values()
        if one.scores.reason is None
        and len(one.scores.seeds) > 2
        and has_learnt(estimate(one.scores, LEVEL, (unit.low, unit.high)), one.constant)
    ]
    pairs = [
        (a, b) for a, b in combinations(usable, 2) if a.examples == b.examples and a.scores.seeds == b.scores.seeds
    ]
    if not pairs:
        return None
    sources = [noise_of(a, b) for a, b in pairs]
    return Measured(pooled(sources), len(pairs), min(len(a.scores.seeds) for a, _ in pairs))


def noise_of(a: Scored, b: Scored) -> NoiseSources:
    """Return the sources of the noise of a difference of two rows with the same seeds and examples."""
    return noise_sources(difference_by_seed(a.scores, b.scores))


def default_sources(examples: int) -> NoiseSources:
    """Return the sources that are assumed of an accuracy where nothing was measured."""
    half = DEFAULT_DISAGREEMENT / 2 / examples
    return NoiseSources(DEFAULT_SEED_SD**2, half, half, examples)


def default_words() -> str:
    """Return the defaults in words."""
    return (
        f"assumed: differences vary by {100 * DEFAULT_SEED_SD:g} points between seeds, and two methods differ on "
        f"{100 * DEFAULT_DISAGREEMENT:g} % of the examples"
    )


def needed(sources: NoiseSources, origin: str, difference: float, seeds: int, examples: int) -> Needed:
    """Return what it takes to see a difference in 80 % of cases, by a two-sided test at 5 %.

    Args:
        sources: of the noise.
        origin: of the sources, in words.
        difference: to be seen, in the metric's unit.
        seeds: planned.
        examples: reported.
    """
    tested = seeds >= MIN_SEEDS
    return Needed(
        origin,
        examples,
        seeds,
        seeds_needed(sources, difference, examples=examples),
        examples_needed(sources, difference, seeds) if tested else None,
        detectable(sources.spread(seeds, examples)) if tested else None,
    )
