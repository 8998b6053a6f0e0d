"""Texts and numbers of files, in every way in which programs write them."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value

from parbench.bench.util.errors import UserError
from parbench.tasks.data.values import numbers_of, shortest, texts_of

WHERE = "the test split of my/task"


def column(values, feature=None):
    return Dataset.from_dict({"c": values}, features=Features({"c": feature}) if feature else None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7.5", 7.5), (" 43 ", 43.0), ("+4.9e1", 49.0), (".5", 0.5), (3, 3.0), (Decimal("1.25"), 1.25), ("02", 2.0)],
)
def test_numbers_as_decimals_are_written(value, expected):
    assert numbers_of(column([value]), "c", WHERE) == [expected]


@pytest.mark.parametrize("value", ["n.a.", "", "nan", "inf", "0x1F", "1_000", "1,5", "12 kg", True, None, "1e39", "٣"])
def test_a_number_that_is_none_is_named_with_its_row(value):
    values = [1.0, value] if value is True or value is None else ["1", value]
    data = Dataset(pa.table({"c": [value, value]})) if value is True else column(values)
    row = 1 if value is True else 2
    with pytest.raises(UserError) as error:
        numbers_of(data, "c", WHERE)
    assert f"column c, has no number as its label in row {row} (it is {value!r})" in str(error.value)
    assert ("decimal point" in str(error.value)) == (value == "1,5")


def test_whole_numbers_are_written_the_same_whatever_their_type():
    """A file of whole numbers only has another type than one with a fraction in it."""
    assert texts_of(column([43.0, 7.5]), "c", WHERE) == ["43", "7.5"]
    assert texts_of(column([43, 7]), "c", WHERE) == ["43", "7"]
    assert texts_of(column([0.1, 16777216.0], Value("float32")), "c", WHERE) == ["0.1", "16777216"]


@pytest.mark.parametrize("number", [0.1, 1e22, 1 / 3, -0.0, 5e-324, 123456789.125])
def test_the_shortest_decimal_reads_back(number):
    assert float(shortest(number)) == number
    assert np.float32(shortest(float(np.float32(number)), single=True)) == np.float32(number)


@pytest.mark.parametrize("value", [None, True, float("nan"), ["a"], {"a": "b"}, b"a"])
def test_what_is_not_a_text(value):
    with pytest.raises(UserError, match=r"has no text in column c, row 1 \(it is"):
        texts_of(Dataset(pa.table({"c": pa.array([value])})), "c", WHERE)
