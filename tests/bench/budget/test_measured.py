import math

import pytest

from parbench.bench.budget.measured import (
    Measured,
    OutOfMemoryError,
    Workload,
    fit_measured,
    in_fresh_process,
    read_limit,
)
from parbench.bench.util.errors import UserError
from parbench.methods import find_method


def costing(seconds_of, bytes_of=lambda size: 0):
    """Return a measure whose cost is a function of LoRA's rank."""
    return lambda method, setting: Measured(seconds_of(getattr(setting, "r", 0)), bytes_of(getattr(setting, "r", 0)))


def test_the_largest_size_within_the_limit_of_those_tried():
    found = fit_measured(find_method("lora"), 0.5, "step-time", costing(lambda r: 0.1 + 0.05 * r))
    assert (found.size, found.setting.r, found.within) == ("r=8", 8, True)
    assert found.reached == pytest.approx(0.5)
    # Two tries over the limit end the search: one may be noise.
    assert [name for name, _ in found.tried] == ["r=1", "r=2", "r=4", "r=8", "r=16", "r=32"]


def test_a_single_try_over_the_limit_is_taken_for_noise():
    found = fit_measured(find_method("lora"), 0.5, "step-time", costing(lambda r: 9.0 if r == 4 else 0.01 * r))
    assert found.setting.r == 32


def test_nothing_within_the_limit_is_reported():
    found = fit_measured(find_method("lora"), 0.01, "step-time", costing(lambda r: 1.0))
    assert (found.within, found.reached, found.setting.r) == (False, 1.0, 1)


def test_memory_is_its_own_currency():
    found = fit_measured(find_method("lora"), 3 * 2**20, "memory", costing(lambda r: 99.0, lambda r: r * 2**20))
    assert found.setting.r == 2


def test_a_method_of_fixed_size_is_measured_once():
    found = fit_measured(find_method("linear_probe"), 1.0, "step-time", costing(lambda r: 0.5))
    assert (found.size, found.reached, len(found.tried)) == ("", 0.5, 1)


def test_of_many_choices_those_in_double_distance_are_tried():
    even = find_method("hra")
    assert even.method.size_knob.choices[:3] == (2, 4, 6)
    tried = fit_measured(even, 1.0, "step-time", costing(lambda r: 0.001 * r)).tried
    assert [name for name, _ in tried] == [f"r={r}" for r in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)]


def test_sizes_that_a_base_model_refuses_are_skipped():
    odd = fit_measured(
        find_method("lora"),
        0.5,
        "step-time",
        costing(lambda r: 0.01 * r),
        lambda method, one: "even" * (one.r in (2, 8)),
    )
    assert [name for name, _ in odd.tried] == ["r=1", "r=4", "r=16", "r=32", "r=64", "r=128"]
    found = fit_measured(find_method("lora"), 0.5, "step-time", costing(lambda r: 0.1), lambda method, one: "no layers")
    assert found == "no layers"


def test_a_size_that_is_out_of_memory_is_over_any_limit():
    def measure(method, setting):
        if setting.r > 4:
            raise OutOfMemoryError("too much")
        return Measured(0.1, 1)

    found = fit_measured(find_method("lora"), 1e9, "memory", measure)
    assert (found.size, found.reached, found.within) == ("r=4", 1, True)
    assert found.tried[-2:] == (("r=8", math.inf), ("r=16", math.inf))
    assert fit_measured(find_method("linear_probe"), 1.0, "memory", failing) == "no r"


def failing(method, setting):
    raise OutOfMemoryError("no r")


@pytest.mark.parametrize(
    ("text", "currency", "limit"),
    [
        ("250ms", "step-time", 0.25),
        ("0.3s", "step-time", 0.3),
        ("2GiB", "memory", 2.0**31),
        ("900MiB", "memory", 900 * 2.0**20),
        ("match:lora(r=8)", "step-time", 0.8),
    ],
)
def test_limits_are_read(text, currency, limit):
    assert read_limit(text, currency, costing(lambda r: 0.1 * r)) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "currency"), [("24k", "memory"), ("2GB", "memory"), ("0ms", "step-time"), ("s", "step-time")]
)
def test_what_is_not_a_limit_is_a_sentence(text, currency):
    with pytest.raises(UserError, match=f"is not a {currency}: give match"):
        read_limit(text, currency, costing(lambda r: 0.1))


def test_a_candidate_is_measured_in_a_process_of_its_own(tiny_model):
    measure = in_fresh_process(Workload(str(tiny_model), batch_size=2, length=16, device="cpu"))
    choice = find_method("lora")
    setting = choice.method.setting_type()
    found = measure(choice.method, setting)
    assert found.step_seconds > 0
    assert found.peak_bytes > 10**8
    assert measure(choice.method, setting) is found


def test_a_candidate_that_cannot_be_measured_gives_the_reason(tiny_model):
    measure = in_fresh_process(Workload(str(tiny_model), batch_size=2, length=16, device="cpu"))
    choice = find_method("lora(target_modules=[nothing])")
    with pytest.raises(UserError, match=r'lora cannot be measured on .*target_modules has "nothing"'):
        measure(choice.method, choice.method.setting_type(target_modules=("nothing",)))
