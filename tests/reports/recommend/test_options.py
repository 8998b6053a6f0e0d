"""The short list: what dominates what, and what does not fit."""

import math
from dataclasses import replace

import pytest

from parbench.reports.recommend.options import (
    Amount,
    Costs,
    Option,
    StepTime,
    dominates,
    rate_to_begin,
    short_list,
    size_text,
)
from parbench.reports.recommend.quality import Quality
from parbench.reports.statistics import no_ranking

GIB = 2**30


def option(row, quality, memory=1.0, step=1.0, adapter=1000, rates=None):
    amounts = [None if value is None else Amount(value, "predicted") for value in (memory, step, adapter)]
    memory_amount = amounts[0] and Amount(amounts[0].value * GIB, "predicted")
    costs = Costs(memory_amount, amounts[1] and StepTime(amounts[1]), amounts[2])
    return Option(row, row, quality, costs, {}, {}, rates or {}, 1)


def found(*options, better=()):
    values = {one.row: one.quality for one in options}
    counts = dict.fromkeys(values, 1)
    return Quality("measured", values, (), frozenset(better), no_ranking("one task"), counts, None)


def rows(options, better=(), **limits):
    chosen = short_list(options, found(*options, better=better), **limits)
    return [one.row for one in chosen.options], {left.option.row: left.why for left in chosen.left}


def test_what_is_worse_in_everything_is_not_on_the_list():
    kept, left = rows([option("a", 0.9), option("b", 0.8, memory=2), option("c", 0.7, memory=0.5)], {("a", "b")})
    assert kept == ["a", "c"]
    assert left == {"b": "a is shown to be better and costs no more"}


def test_a_difference_that_is_not_shown_is_said_so():
    assert rows([option("a", 0.9), option("b", 0.8)])[1] == {"b": "a scores no less and costs no more"}


@pytest.mark.parametrize("name", ["memory", "step", "adapter"])
def test_one_lower_cost_keeps_a_method(name):
    usual = {"memory": 1.0, "step": 1.0, "adapter": 1000}
    cheap = option("b", 0.5, **{name: 0.9 * usual[name]})
    assert rows([option("a", 0.9), cheap])[0] == ["a", "b"]
    # Costs within 5 % of each other are the same.
    assert rows([option("a", 0.9), option("b", 0.5, **{name: 0.97 * usual[name]})])[0] == ["a"]


def test_costs_that_are_not_known_do_not_count():
    assert rows([option("a", 0.9, memory=None), option("b", 0.8, memory=0.1)])[0] == ["a"]
    assert rows([option("a", 0.9, memory=None, step=2.0), option("b", 0.8)])[0] == ["a", "b"]


def test_of_the_same_score_the_cheaper_one_stays():
    kept, left = rows([option("a", 0.9, memory=2), option("b", 0.9, memory=1)])
    assert kept == ["b"]
    assert left == {"a": "b scores no less and costs no more"}
    assert rows([option("a", 0.9), option("b", 0.9)])[0] == ["a", "b"]


def test_of_several_settings_of_one_method_the_best_that_fits_is_listed():
    large, small = (replace(option(f"a (r={r})", r / 10, memory=r), method="a") for r in (8, 4))
    kept, left = rows([large, option("b", 0.6, memory=6), small])
    assert kept == ["a (r=8)", "b"]
    assert left == {"a (r=4)": "a (r=8) is the same method and scores no less"}
    assert rows([large, small], memory=5 * GIB)[0] == ["a (r=4)"]
    # A cheaper setting of the same score takes the place of the other.
    assert rows([large, replace(small, quality=large.quality)])[0] == ["a (r=4)"]


def test_what_does_not_fit_is_left_out_with_its_size():
    kept, left = rows([option("a", 0.9, memory=20), option("b", 0.8, memory=2)], memory=16 * GIB)
    assert kept == ["b"]
    assert left == {"a": "takes 20.00 GiB of memory, more than 16.00 GiB"}
    assert rows([option("a", 0.9, memory=None)], memory=1)[0] == ["a"]


def test_what_was_refused_is_left_out():
    assert rows([option("a", 0.9), option("b", 0.8)], refusals={"a": "cannot be served"}) == (
        ["b"],
        {"a": "cannot be served"},
    )


def test_nothing_dominates_what_is_shown_to_be_better():
    a, b = option("a", 0.9), option("b", 0.8)
    assert dominates(a, b, found(a, b))
    assert not dominates(a, b, found(a, b, better={("b", "a")}))
    assert not dominates(a, replace(a, row="c"), found(a))


def test_sizes_in_words():
    assert [size_text(2.5 * GIB), size_text(3 * 2**20), size_text(5120)] == ["2.50 GiB", "3.0 MiB", "5.0 KiB"]


def test_the_rate_to_begin_with_is_that_of_tuned_runs():
    rates = {"a": (1e-3, True), "b": (1e-2, True), "c": (1.0, False)}
    assert rate_to_begin(option("x", 1, rates=rates)) == pytest.approx(math.sqrt(1e-5))
    assert rate_to_begin(option("x", 1, rates={"c": (0.5, False)})) == 0.5
    assert rate_to_begin(option("x", 1)) is None
