"""Questions about images of several of scikit-learn's digits, made up by rule, with their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from parbench.tasks.data.digits import digit_images, png
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.split import CUT_SEED

if TYPE_CHECKING:
    from datasets import Dataset

# Of the digits, those that the images of each split are made of; no two splits share one.
SHARES = {"train": 0.6, "selection": 0.1, "reported": 0.3}
# Images per split, each with one question.
SIZES = {"train": 4000, "selection": 300, "reported": 1000}
# Of one token each in most vocabularies.
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = ("top left", "top right", "bottom left", "bottom right")


def _which(digits: np.ndarray, draw: np.random.Generator) -> tuple[str, str]:
    place = int(draw.integers(len(PLACES)))
    return f"Which digit is at the {PLACES[place]}?", WORDS[digits[place]]


def _greater(digits: np.ndarray, draw: np.random.Generator) -> tuple[str, str]:
    bound = int(draw.integers(3, 7))
    return f"How many digits are greater than {WORDS[bound]}?", WORDS[(digits > bound).sum()]


def _is_there(digits: np.ndarray, draw: np.random.Generator) -> tuple[str, str]:
    # Half of the answers are yes.
    if draw.integers(2):
        return f"Is there {_some(draw.choice(digits))}?", "yes"
    return f"Is there {_some(draw.choice(np.setdiff1d(np.arange(10), digits)))}?", "no"


def _some(digit: int) -> str:
    return f"an {WORDS[digit]}" if digit == 8 else f"a {WORDS[digit]}"


def _which_one(digits: np.ndarray, draw: np.random.Generator) -> tuple[str, str]:
    return "Which digit is it?", WORDS[digits[0]]


def _is_greater(digits: np.ndarray, draw: np.random.Generator) -> tuple[str, str]:
    bound = int(draw.integers(3, 6))
    return f"Is it greater than {WORDS[bound]}?", "yes" if digits[0] > bound else "no"


def _is_even(digits: np.ndarray, draw: np.random.Generator) -> tuple[str, str]:
    return "Is it even?", "no" if digits[0] % 2 else "yes"


Kinds = dict[str, Callable[[np.ndarray, np.random.Generator], tuple[str, str]]]
# By the digits of an image, and the subset of the reported split that has the questions.
KINDS: dict[int, Kinds] = {
    1: {"which": _which_one, "greater": _is_greater, "even": _is_even},
    len(PLACES): {"which": _which, "how_many": _greater, "is_there": _is_there},
}


@dataclass(frozen=True)
class DigitQuestions:
    """Images of one digit or of two by two, each with a question; every kind of question in equal parts.

    Half of the questions to train on ask which digit it is, from which the others follow.

    Attributes:
        digits: of an image, one or four.
    """

    digits: int = len(PLACES)

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: scikit-learn is always installed."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return what the data is."""
        return "questions made up by rule about scikit-learn's digits (UCI)"

    def revision(self, data: DataRef) -> str:
        """Return the hash of all images, questions and answers, before the images are encoded."""
        total = hashlib.sha256()
        for split in SIZES:
            for pixels, question, answer, _ in self._rows(split):
                total.update(pixels.tobytes() + f"{question}\0{answer}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the splits; of the reported one each kind of question by itself."""
        from datasets import Dataset

        names = {data.train: "train", data.selection or "selection": "selection"}
        wanted: dict[str, tuple[str, str | None]] = {name: (split, None) for name, split in names.items()}
        wanted |= {name: ("reported", kind) for kind, name in data.reported.items()}
        found = {}
        for name, (split, kind) in wanted.items():
            rows = [row for row in self._rows(split) if kind in (None, row[3])]
            columns: dict[str, list[Any]] = {
                "image": [png(pixels) for pixels, *_ in rows],
                "question": [question for _, question, _, _ in rows],
                "answer": [answer for _, _, answer, _ in rows],
            }
            found[name] = Dataset.from_dict(columns)
        return found

    def _rows(self, split: str) -> list[tuple[np.ndarray, str, str, str]]:
        """Return image (uint8), question, answer and kind of question of each row of a split."""
        kinds = KINDS[self.digits]
        images, labels = digit_images()
        order = np.random.default_rng(CUT_SEED).permutation(len(labels))
        ends = np.round(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
        own = np.split(order, ends[:-1])[list(SHARES).index(split)]
        draw = np.random.default_rng([CUT_SEED, list(SHARES).index(split)])
        first, *others = kinds
        cycle = [kind for other in others for kind in (first, other)] if split == "train" else list(kinds)
        rows = []
        for number in range(SIZES[split]):
            chosen = draw.choice(own, size=self.digits, replace=False)
            side = round(self.digits**0.5)
            rows_of_image = [np.hstack(list(several)) for several in np.split(images[chosen], side)]
            kind = cycle[number % len(cycle)]
            question, answer = kinds[kind](labels[chosen], draw)
            rows.append((np.vstack(rows_of_image), question, answer, kind))
        return rows
