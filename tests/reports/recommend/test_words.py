"""What a recommendation says of options that cannot be told apart."""

from parbench.reports.recommend.options import Amount, Costs, Option, ShortList, StepTime
from parbench.reports.recommend.words import _cheapest


def option(row, memory, step, adapter):
    costs = Costs(Amount(memory, "predicted"), StepTime(Amount(step, "measured")), Amount(adapter, "counted"))
    return Option(row, row, 0.9, costs, {}, {}, {}, 1)


def cheapest(*options):
    return _cheapest(ShortList(options, ()), {one.row for one in options})


def test_of_one_option_that_is_left_there_is_no_cheapest():
    assert cheapest(option("lora", 1, 1, 100)) == ""


def test_options_that_cost_the_same_are_all_named():
    """Costs within 5 % of each other are the same."""
    said = cheapest(option("lora", 1, 1, 100), option("c3a", 1.04, 2, 100), option("loca", 2, 3, 200))
    assert said == (
        "lora and c3a take the least memory, lora has the fastest step and lora and c3a have the smallest adapter"
    )


def test_a_cost_that_is_the_same_for_all_is_not_mentioned():
    assert cheapest(option("lora", 1, 1, 100), option("c3a", 1, 2, 100)) == "lora has the fastest step"
