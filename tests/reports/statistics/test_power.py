"""What it takes to see a difference: against statsmodels for one source of noise, and by simulation for several."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.power import TTestPower

from parbench.reports.statistics import compare_scores, difference_by_seed, score_runs
from parbench.reports.statistics.estimates import VarianceComponents
from parbench.reports.statistics.margins import margin_test
from parbench.reports.statistics.power import (
    NoiseSources,
    detectable,
    examples_needed,
    noise_sources,
    pooled,
    power_of,
    seeds_needed,
)
from parbench.tasks.metrics.classification import METRICS
from tests.support.scores import bare, runs


@pytest.mark.parametrize("seeds", [3, 5, 10, 40])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_with_seeds_alone_it_is_the_power_of_a_t_test(seeds: int, alpha: float) -> None:
    sd = 0.02
    spread = VarianceComponents(((sd**2 / seeds, seeds - 1), (0.0, 99)))
    found = detectable(spread, alpha)
    expected = TTestPower().solve_power(nobs=seeds, alpha=alpha, power=0.8, alternative="two-sided")
    assert found == pytest.approx(expected * sd, rel=0.01)
    assert found is not None
    assert power_of(spread, found, alpha) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("difference", [0.01, 0.03])
def test_the_seeds_needed_are_those_of_a_t_test(difference: float) -> None:
    sources = NoiseSources(0.02**2, 0.0, 0.0, 1000)
    found = seeds_needed(sources, difference)
    expected = TTestPower().solve_power(effect_size=difference / 0.02, alpha=0.05, power=0.8, alternative="two-sided")
    assert found == int(np.ceil(expected))
    assert examples_needed(sources, difference, seeds=found - 1) is None  # more examples change nothing here


def test_the_examples_needed_are_those_of_a_normal_test() -> None:
    sources = NoiseSources(0.0, 0.0, 0.15 / 1000, 1000)
    assert seeds_needed(sources, 0.01) is None  # nor do more seeds here
    expected = 0.15 * ((norm.isf(0.025) + norm.isf(0.2)) / 0.01) ** 2
    assert examples_needed(sources, 0.01, seeds=3) == pytest.approx(expected, rel=0.01)


def test_a_spread_is_divided_into_its_sources_and_put_together_again() -> None:
    rng = np.random.default_rng(0)
    methods = {name: runs(rng.random((4, 300)) < share, (1, 2, 3, 4)) for name, share in (("a", 0.7), ("b", 0.8))}
    scores = score_runs(methods, METRICS["accuracy"])
    sources = noise_sources(difference_by_seed(scores["a"], scores["b"]))
    pair = compare_scores(scores["a"], scores["b"])
    assert detectable(sources.spread(4)) == pytest.approx(pair.detectable, rel=1e-6)
    # Independent runs share nothing: of one difference, p(1 - p) of each method by the number of examples.
    independent = (0.7 * 0.3 + 0.8 * 0.2) / 300
    assert sources.own == pytest.approx(independent, rel=0.2)
    assert sources.shared < independent / 3


@pytest.mark.slow
@pytest.mark.parametrize(("seed_sd", "noise"), [(0.25, 0.3), (0.05, 0.3), (0.05, 1.5)])
def test_as_many_seeds_as_needed_find_the_difference_in_80_percent_of_simulations(seed_sd: float, noise: float) -> None:
    """Examples are hard for all runs alike in part, and runs differ by seed and by example."""
    gap = 0.12

    def draw(rng: np.random.Generator, seeds: int, examples: int = 250) -> dict:
        hard = rng.normal(size=examples)
        made = {}
        for name, shift in (("a", gap), ("b", 0.0)):
            skill = shift + seed_sd * rng.normal(size=(seeds, 1)) + noise * rng.normal(size=(seeds, examples))
            own = 0.2 * np.random.default_rng(rng.integers(2**32)).normal(size=examples)  # of the method
            made[name] = runs(skill + own > hard, tuple(range(seeds)))
        return score_runs(made, METRICS["accuracy"])

    rng = np.random.default_rng(1)
    measured = [draw(rng, 6) for _ in range(60)]
    sources = pooled([noise_sources(difference_by_seed(one["a"], one["b"])) for one in measured])
    true = float(np.mean([one["a"].by_seed.mean() - one["b"].by_seed.mean() for one in measured]))
    seeds = seeds_needed(sources, true)
    if seeds is None or seeds > 60:  # the examples alone vary too much: what can be seen is checked instead
        seeds = 8
        expected = power_of(sources.spread(seeds), true)
    else:
        expected = power_of(sources.spread(seeds), true)
        assert expected >= 0.8
    found = 0
    for _ in range(200):
        one = draw(rng, seeds)
        pair = compare_scores(one["a"], one["b"])
        found += pair.p_value is not None and pair.p_value <= 0.05 and pair.difference > 0
    assert found / 200 == pytest.approx(expected, abs=0.1)


def test_no_variance_detects_nothing_it_could_name() -> None:
    assert detectable(VarianceComponents(((0.0, 2), (0.0, 99)))) is None
    identical = compare_scores(bare("a", [0.5, 0.5, 0.5]), bare("b", [0.5, 0.5, 0.5]))
    assert identical.detectable is None
    tested = margin_test(bare("a", [0.5, 0.5, 0.5]), bare("b", [0.4, 0.4, 0.4]), "within", 0.2)
    assert (tested.holds, tested.reason) == (None, "all runs differ by the same: there is no variation to judge by")
