"""Exam questions by subject."""

from collections import Counter

from parbench.tasks.data.split import THREE_WAY
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.mmlu_subject import MMLU_SUBJECT, SUBJECTS, distinct_questions
from tests.support.data import fetched


def test_questions_that_begin_alike_are_one_and_ambiguous_ones_none():
    passage = "word " * 60
    asked = [
        ("What  is\nlaw?", "law"),
        ("what is law?", "law"),
        ("Which of these is true?", "law"),
        ("Which of these is true?", "physics"),
        (f"{passage} First?", "history"),
        (f"{passage} Second?", "history"),
        ("What is force?", "physics"),
    ]
    assert distinct_questions(asked) == [
        ("What is law?", "law"),
        (f"{' '.join(passage.split())} First?", "history"),
        ("What is force?", "physics"),
    ]


def test_the_real_questions_have_57_subjects_in_every_split():
    fetched(VALIDATION_SPLITS)
    splits = MMLU_SUBJECT.splits(MMLU_SUBJECT.own_source)
    # The subjects are those of the paper's table of tasks: 57.
    assert len(SUBJECTS) == len(set(SUBJECTS)) == 57
    whole = sum(splits.sizes.values())
    assert whole > 14_000
    for name, share in THREE_WAY.items():
        assert abs(splits.sizes[name] / whole - share) < 0.001
        assert set(splits.by_name[name]["label"][:]) == set(range(57))
    beginnings = Counter(text[:256].lower() for part in splits.by_name.values() for text in part["question"][:])
    assert max(beginnings.values()) == 1
    rows = dict(zip(splits.train["question"][:], splits.train["label"][:], strict=True))
    asked = "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q."
    assert SUBJECTS[rows[asked]] == "abstract_algebra"
