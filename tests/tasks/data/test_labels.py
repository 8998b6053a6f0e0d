"""Labels of files, in every way in which programs write them."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from parbench.bench.util.errors import UserError
from parbench.tasks.data.labels import class_ids, in_one_order, places_of

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


def test_names_are_matched_however_their_accents_are_encoded():
    one, two = "caf\u00e9", "cafe\u0301"
    assert ids([one, two, "bar"], ["bar", two]) == [1, 1, 0]
    assert ids([0, 1], ["bar", two], ClassLabel(names=[one, "bar"])) == [1, 0]
    # As names of two classes they are two.
    assert ids([one, two], [one, two]) == [0, 1]


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


def places(values, choices, names=("options",), feature=None):
    return places_of(column(values, feature), "c", [choices] * len(values), names, WHERE)


def test_the_right_choice_by_text_column_letter_or_number():
    assert places(["1", "3"], ["1", "2", "3"]) == [0, 2]
    assert places([1, 2], ["1", "2", "3"]) == [1, 2]
    assert places(["b", "C", "0", "1.0"], ["x", "y", "z"]) == [1, 2, 0, 1]
    assert places(["right", "left"], ["x", "y"], ("left", "right")) == [1, 0]
    assert places([0, 1], ["x", "y"], feature=ClassLabel(names=["B", "A"])) == [1, 0]
    assert places([0, 1], ["x", "y"], feature=ClassLabel(names=["y", "x"])) == [1, 0]
    assert places([20, 30], ["10", "20", "30"]) == [1, 2]
    assert places([0.5, 2.5], ["0.5", "1.5", "2.5"]) == [0, 2]
    assert places(["true", "false"], ["x", "y"], ("true", "false")) == [0, 1]


@pytest.mark.parametrize(
    ("value", "choices", "expected"),
    [
        (True, ["true", "false"], 0),
        (False, ["True", "False", "Not given"], 1),
        ("True", ["false", "true"], 1),
        ("False", ["yes", "no"], 1),
        (True, ["0", "1"], 1),
    ],
)
def test_a_truth_value_is_the_choice_that_means_it(value, choices, expected):
    assert places([value], choices) == [expected]


@pytest.mark.parametrize(
    ("values", "choices", "what"),
    [
        (["0", "1"], ["1", "2", "3"], "row 2 has a label that is the text of a choice, and row 1 has"),
        (["7", "0"], ["5", "6", "7"], "row 1 has a label that is the text of a choice, and row 2 has"),
        ([1, 3], ["1", "2", "3"], "row 1 has a label that is the number of a choice, and row 2 has"),
    ],
)
def test_numbers_that_are_texts_in_some_rows_are_not_guessed(values, choices, what):
    with pytest.raises(UserError, match=what):
        places(values, choices)


@pytest.mark.parametrize("value", [3, -1, "D", "purple", None, True, "False", 0.5, "3"])
def test_a_choice_that_is_not_there(value):
    with pytest.raises(UserError, match=r"row 1 has the unknown label .*; it may be the text of one choice"):
        places([value], ["x", "y", "z"])


def test_classes_that_files_name_in_different_orders_are_the_same_classes():
    """Without names of its own, a task would score a cat by the number that another split has for dogs."""
    orders = {"train": ["cat", "dog", "Ä"], "test": ["dog", "A\u0308", "cat"], "more": ["cat", "dog", "Ä"]}
    said = ["dog", "cat", "cat", "Ä"]
    as_numbers = {
        "train": [1, 0, 0, 2],
        "test": [0, 2, 2, 1],
        "more": [1, 0, 0, 2],
    }
    splits = {name: column(as_numbers[name], ClassLabel(names=names)) for name, names in orders.items()}
    found = in_one_order(splits)
    for name in orders:
        assert found[name].features["c"].int2str(found[name]["c"][:]) == said
        assert class_ids(found[name], "c", ["0", "1", "2"], WHERE) == [1, 0, 0, 2]
        assert class_ids(splits[name], "c", ["cat", "Ä", "dog"], WHERE) == [2, 0, 0, 1]


def test_splits_of_other_classes_are_refused():
    splits = {"train": column([0], ClassLabel(names=["cat", "dog"])), "test": column([0], ClassLabel(names=["a", "b"]))}
    with pytest.raises(UserError, match="train and test name other classes in column c: cat, dog, and a, b"):
        in_one_order(splits)
