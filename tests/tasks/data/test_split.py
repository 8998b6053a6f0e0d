from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from datasets import Dataset

from parbench.bench.util.errors import UserError
from parbench.tasks.data.source import DataRef, HubDataset
from parbench.tasks.data.split import capped, cut_splits, nested_share

REF = DataRef("thing", "train", {"": "validation"}, HubDataset("a/b"))
TWO = DataRef("thing", "train", {"near": "near", "far": "far"}, HubDataset("a/b"))


def data(count, share=0.5):
    return Dataset.from_dict(
        {"text": [str(n) for n in range(count)], "label": [int(n < share * count) for n in range(count)]}
    )


def sizes(cut):
    return len(cut.train), len(cut.selection), len(cut.reported)


def test_selection_is_cut_from_train_and_the_official_split_is_reported():
    cut = cut_splits({"train": data(200), "validation": data(50)}, REF, None, stratify=True)
    assert sizes(cut) == (180, 20, 50)
    assert {name.split(":")[0] for name in cut.selection["example"]} == {"train"}
    assert {name.split(":")[0] for name in cut.reported["example"]} == {"validation"}


def test_the_selection_split_has_at_most_a_thousand():
    assert sizes(cut_splits({"train": data(20000), "validation": data(5)}, REF, None, True)) == (19000, 1000, 5)


def test_a_lone_validation_split_is_cut_in_three():
    cut = cut_splits({"validation": data(100, share=0.3)}, REF, None, stratify=True)
    assert sizes(cut) == (45, 15, 40)
    together = [name for part in cut for name in part["example"]]
    assert len(set(together)) == 100
    assert sum(cut.reported["label"][:]) == 12


def test_the_cut_is_always_the_same():
    cuts = [cut_splits({"train": data(200), "validation": data(50)}, REF, 30, stratify=True) for _ in range(2)]
    for first, second in zip(*cuts, strict=True):
        assert first["example"][:] == second["example"][:]


def test_a_limit_caps_each_split_with_the_same_examples_of_the_same_cut():
    whole = cut_splits({"train": data(200), "validation": data(50)}, REF, None, stratify=True)
    small = cut_splits({"train": data(200), "validation": data(50)}, REF, 15, stratify=True)
    assert sizes(small) == (15, 15, 15)
    for part, larger in zip(small, whole, strict=True):
        assert set(part["example"][:]) <= set(larger["example"][:])


def test_reported_subsets_are_joined_and_named():
    cut = cut_splits({"train": data(100), "near": data(10), "far": data(20)}, TWO, None, stratify=True)
    assert cut.reported["subset"][:] == ["near"] * 10 + ["far"] * 20


def test_numbers_are_cut_without_strata():
    numbers = Dataset.from_dict({"text": ["x"] * 40, "label": [n / 8 for n in range(40)]})
    assert sizes(cut_splits({"train": numbers, "validation": numbers}, REF, None, stratify=False)) == (36, 4, 40)


def test_too_little_data_is_a_sentence():
    with pytest.raises(UserError, match=r'"thing" \(3 examples\) is too small to cut'):
        cut_splits({"train": data(3), "validation": data(3)}, REF, None, stratify=True)


def test_an_official_selection_split_is_taken_as_it_is():
    official = replace(REF, selection="dev")
    assert official.split_names == ("train", "dev", "validation")
    cut = cut_splits({"train": data(200), "dev": data(30), "validation": data(50)}, official, None, stratify=True)
    assert sizes(cut) == (200, 30, 50)
    assert {name.split(":")[0] for name in cut.selection["example"]} == {"dev"}


@pytest.mark.parametrize("labels", [None, [0] * 150 + [1] * 40 + [2] * 10])
def test_shares_of_a_training_split_are_nested(labels):
    shares = [set(nested_share(labels, 200, fraction, seed=3)) for fraction in (0.01, 0.1, 0.3, 0.5, 1.0)]
    for smaller, larger in pairwise(shares):
        assert smaller < larger
    assert shares[-1] == set(range(200))


def test_every_class_has_its_share_and_one_row_at_least():
    labels = [0] * 150 + [1] * 40 + [2] * 10
    kept = Counter(labels[row] for row in nested_share(labels, 200, 0.1, seed=1))
    assert kept == {0: 15, 1: 4, 2: 1}
    assert Counter(labels[row] for row in nested_share(labels, 200, 0.01, seed=1)) == {0: 2, 1: 1, 2: 1}


def test_shares_are_drawn_by_the_seed():
    assert nested_share(None, 200, 0.1, seed=1) == nested_share(None, 200, 0.1, seed=1)
    assert nested_share(None, 200, 0.1, seed=1) != nested_share(None, 200, 0.1, seed=2)


def test_a_share_of_less_than_one_row_is_refused():
    with pytest.raises(UserError, match=r"0\.001 of 200 training examples is less than one"):
        nested_share(None, 200, 0.001, seed=1)


def test_each_subset_is_capped_with_the_same_examples():
    cut = cut_splits({"train": data(100), "near": data(10), "far": data(20)}, TWO, None, stratify=True)
    small = capped(cut.reported, 4)
    assert Counter(small["subset"]) == {"near": 4, "far": 4}
    assert small["example"][:] == capped(cut.reported, 4)["example"][:]
    assert set(small["example"]) <= set(capped(cut.reported, 6)["example"])
    assert capped(cut.reported, 20)["example"][:] == cut.reported["example"][:]
