"""The accuracy of VQA, against its published definition, worked by hand, and the official evaluator's rules."""

import pytest

from parbench.tasks.metrics.vqa import CONTRACTIONS, normalised, vqa_accuracy


@pytest.mark.parametrize(("agreeing", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_accuracy_by_the_number_of_annotators_that_agree(agreeing, accuracy):
    """Of ten: with n that agree, n of the ten that are left out leave n - 1, the others leave n."""
    annotators = ["cat"] * agreeing + [f"dog {number}" for number in range(10 - agreeing)]
    assert vqa_accuracy("cat", annotators) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("answer", "compared"),
    [
        ("The dogs.", "dogs"),
        ("two", "2"),
        ("none", "0"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("dont know", "don't know"),
        ("Couldntve", "couldntve"),
        ("couldn'tve", "couldn't've"),
        ("black-and-white", "black and white"),
        ("black - white", "black white"),
        ("yes,it is", "yes it is"),
        ("U.S.A.", "usa"),
        ("5:30", "5:30"),
        ("  a man\nand\ta woman ", "man and woman"),
        ("", ""),
    ],
)
def test_answers_are_normalised_by_the_evaluators_rules(answer, compared):
    assert normalised(answer) == compared


def test_contractions_are_the_evaluators():
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["youve"] == "you've"
    assert CONTRACTIONS["'ow'sat"] == "'ow's'at"
    assert CONTRACTIONS["somebody'd"] == "somebodyd"
    assert "lets" not in CONTRACTIONS
    assert "shes" not in CONTRACTIONS


@pytest.mark.parametrize(
    ("answer", "annotators", "accuracy"),
    [
        # What the publishers' evaluator, commit a013f00, gives. Annotators that agree are compared with as they are.
        ("no", ["no"] * 10, 1.0),
        (" no\n", ["no"] * 10, 1.0),
        ("No.", ["no"] * 10, 0.0),
        ("the cat", ["the cat"] * 10, 1.0),
        ("2", ["two"] * 10, 0.0),
        # Others are normalised as the answer is.
        ("no", ["no."] * 9 + ["yes"], 1.0),
        ("none", ["none"] * 2 + ["0"] + ["5"] * 7, 0.9),
        ("the cat", ["the cat"] * 2 + ["dog"] * 8, 0.6),
        ("2", ["two"] * 4 + ["3"] * 6, 1.0),
        ("dont know", ["Don't know", "don't know."] + ["yes"] * 8, 0.6),
        ("1,000", ["1000"] + ["one thousand"] * 9, 0.3),
    ],
)
def test_annotators_answers_are_normalised_where_they_differ(answer, annotators, accuracy):
    assert vqa_accuracy(answer, annotators) == pytest.approx(accuracy)
