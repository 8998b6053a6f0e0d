"""Labels and numbers of files, in every way in which programs write them."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from parbench.bench.util.errors import UserError
from parbench.tasks.data.values import class_ids, numbers_of, places_of, shortest, texts_of

WHERE = "the test split of my/task"


def column(values, feature=None):
    return Dataset.from_dict({"c": values}, features=Features({"c": feature}) if feature else None)


def ids(values, labels, feature=None):
    return class_ids(column(values, feature), "c", labels, WHERE)


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        (["neg", "pos"], ["pos", "neg"], [1, 0]),
        (["neg", "pos"], [1, 0], [1, 0]),
        (["neg", "pos"], ["1", "0"], [1, 0]),
        (["neg", "pos"], [1.0, 0.0], [1, 0]),
        (["neg", "pos"], ["1.0", "0.0"], [1, 0]),
        # Where names are numbers, numbers are names.
        (["2", "1"], [1, 2], [1, 0]),
        (["2", "1"], ["1.0", "2"], [1, 0]),
        (["2", "1"], [1.0, 2.0], [1, 0]),
        (["1.0", "2.0"], ["1", "2.0"], [0, 1]),
        (["0", "1"], [True, False], [1, 0]),
        (["0", "1"], ["True", "False"], [1, 0]),
        (["true", "false"], [True, False], [0, 1]),
        (["True", "False"], ["true", "FALSE"], [0, 1]),
        (["true", "false", "unknown"], ["True", "unknown"], [0, 2]),
        (["false", "true"], [0, 1], [0, 1]),
        (["no", "yes"], [True, False], [1, 0]),
        (["01", "02"], ["02", "01"], [1, 0]),
    ],
)
def test_labels_by_name_and_by_number(labels, values, expected):
    assert ids(values, labels) == expected


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        (["neg", "pos"], True),
        (["neg", "pos"], "True"),
        (["neg", "pos"], 2),
        (["neg", "pos"], "-1"),
        (["neg", "pos"], 0.5),
        (["neg", "pos"], "0x1"),
        (["neg", "pos"], "01"),
        (["neg", "pos"], "pos "),
        (["neg", "pos"], "POS"),
        # A one may be true, or the second class.
        (["true", "false"], 1),
        (["yes", "no"], "0"),
        (["a", "2"], 1),
        (["1", "2", "3"], True),
        (["1", "2"], 0),
    ],
)
def test_labels_that_could_mean_anything_are_refused(labels, value):
    with pytest.raises(UserError, match=r"my/task, column c, has the unknown label .* in row 1; it may be"):
        ids([value], labels)


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_a_missing_label_is_named(value):
    with pytest.raises(
        UserError, match=r"column c, has no label in row 1; it may be neg, pos, or a number from 0 to 1"
    ):
        ids([value], ["neg", "pos"], Value("string") if value is None else None)


def test_names_of_the_data_are_matched_by_name():
    assert ids([0, 1], ["neg", "pos"], ClassLabel(names=["pos", "neg"])) == [1, 0]
    # Where one side has only numbers, they are places.
    assert ids([0, 1], ["0", "1"], ClassLabel(names=["pos", "neg"])) == [0, 1]
    assert ids([0, 1], ["pos", "neg"], ClassLabel(names=["0", "1"])) == [0, 1]
    for names, what in [
        (["pos", "neg", "mixed"], '"mixed" is only in the data'),
        (["positive", "neg"], '"positive" is only in the data and "pos" is only in the task'),
    ]:
        with pytest.raises(UserError, match=what):
            ids([0, 1], ["neg", "pos"], ClassLabel(names=names))
    with pytest.raises(UserError, match="they must be 2, 1"):
        ids([0], ["2", "1"], ClassLabel(names=["0", "1"]))
    with pytest.raises(UserError, match="no label in row 1"):
        ids([None], ["neg", "pos"], ClassLabel(names=["pos", "neg"]))


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


def places(values, choices, names=("options",), feature=None):
    return places_of(column(values, feature), "c", [choices] * len(values), names, WHERE)


def test_the_right_choice_by_text_column_letter_or_number():
    assert places(["1", "3"], ["1", "2", "3"]) == [0, 2]
    assert places([1, 2], ["1", "2", "3"]) == [1, 2]
    assert places(["b", "C", "0", "1.0"], ["x", "y", "z"]) == [1, 2, 0, 1]
    assert places(["right", "left"], ["x", "y"], ("left", "right")) == [1, 0]
    assert places([0, 1], ["x", "y"], feature=ClassLabel(names=["B", "A"])) == [1, 0]
    assert places([0, 1], ["x", "y"], feature=ClassLabel(names=["y", "x"])) == [1, 0]


def test_a_number_that_is_a_text_as_well_is_not_guessed():
    with pytest.raises(UserError, match="row 2 has a label that is the text of one choice and the number of another"):
        places(["0", "1"], ["1", "2", "3"])


@pytest.mark.parametrize("value", [3, -1, "D", "purple", None, True, 0.5, "3"])
def test_a_choice_that_is_not_there(value):
    with pytest.raises(UserError, match=r"row 1 has the unknown label .*; it may be the text of one choice"):
        places([value], ["x", "y", "z"])
