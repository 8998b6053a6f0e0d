"""Questions about digits: their answers follow from the pixels, the splits share no digit, and no answer is free."""

import io
from collections import Counter
from functools import cache

import numpy as np
import pytest
from PIL import Image

from parbench.tasks.data.digit_questions import PLACES, SIZES, WORDS
from parbench.tasks.data.digits import digit_images
from parbench.tasks.vl.digits import DIGITS_QA, ONE_DIGIT_QA


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"])))


@cache
def known_digits():
    images, labels = digit_images()
    return {one.tobytes(): int(label) for one, label in zip(images, labels, strict=True)}


def digits_of(image):
    """Return the labels of the 8 x 8 images that an image is made of, row by row; known by their pixels."""
    known = known_digits()
    parts = [part for half in np.split(image, len(image) // 8) for part in np.split(half, len(image) // 8, axis=1)]
    return [known[np.ascontiguousarray(part).tobytes()] for part in parts]


def answer_to(question, digits):
    words = question.removesuffix("?").split()
    if question.startswith("Which digit is at"):
        return WORDS[digits[PLACES.index(" ".join(words[-2:]))]]
    if question == "Which digit is it?":
        return WORDS[digits[0]]
    if question.startswith("How many"):
        return WORDS[sum(digit > WORDS.index(words[-1]) for digit in digits)]
    if question.startswith("Is there"):
        return "yes" if WORDS.index(words[-1]) in digits else "no"
    if question.startswith("Is it greater"):
        return "yes" if digits[0] > WORDS.index(words[-1]) else "no"
    assert question == "Is it even?"
    return "no" if digits[0] % 2 else "yes"


@pytest.mark.parametrize("task", [DIGITS_QA, ONE_DIGIT_QA])
def test_answers_follow_from_the_pixels(task):
    splits = task.own_source.load(task.data)
    reported = [row for kind in task.data.reported.values() for row in splits[kind]]
    assert len(reported) == SIZES["reported"]
    for row in [*list(splits["train"])[:200], *reported]:
        assert row["answer"] == answer_to(row["question"], digits_of(pixels(row))), row["question"]
    assert {name: len(splits[name]) for name in ("train", "selection")} == {"train": 4000, "selection": 300}
    # Half of the training questions name a digit; of the others every kind is as frequent as the next.
    named = sum(row["question"].startswith("Which") for row in splits["train"])
    assert named == len(splits["train"]) / 2


@pytest.mark.parametrize("task", [DIGITS_QA, ONE_DIGIT_QA])
def test_splits_share_no_digit_and_no_answer_is_free(task):
    splits = task.own_source.load(task.data)
    side = 8
    seen = []
    for name in ("train", "selection", *task.data.reported.values()):
        parts = {
            image[top : top + side, left : left + side].tobytes()
            for image in map(pixels, splits[name])
            for top in range(0, len(image), side)
            for left in range(0, len(image), side)
        }
        seen.append(parts)
    train, selection, *reported = seen
    assert not train & selection
    assert not (train | selection) & set.union(*reported)
    for kind in task.data.reported.values():
        most = Counter(splits[kind]["answer"]).most_common(1)[0][1] / len(splits[kind])
        assert most < 0.65, kind
