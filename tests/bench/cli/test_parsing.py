"""Lists on the command line."""

import pytest

from parbench.bench.cli.parsing import read_seeds
from parbench.bench.util.errors import UserError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (3,)),
        ("1,2,3", (1, 2, 3)),
        ("1-5", (1, 2, 3, 4, 5)),
        ("7, 1-3,2", (7, 1, 2, 3)),
        ("01,1", (1,)),
        ("4-4", (4,)),
        (f"{2**32 - 2}-{2**32 - 1}", (2**32 - 2, 2**32 - 1)),
        (None, None),
    ],
)
def test_numbers_and_ranges_are_read_each_once(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "-1", "1-", "5-1", "1..5", "1-3-5", "a", "1.5", str(2**32), f"1-{2**32}"])
def test_what_is_neither_is_one_sentence(text):
    with pytest.raises(UserError, match="--seeds"):
        read_seeds(text)


def test_a_range_of_too_many_is_refused():
    assert len(read_seeds("1-10000") or ()) == 10_000
    with pytest.raises(UserError, match=r'^"--seeds 0-10000" are more than 10,000 numbers$'):
        read_seeds("0-10000")
