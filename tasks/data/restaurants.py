"""Restaurants and texts about them: data in E2E's format, made by this project's own words and templates.

For the mini suite, which must do without the hub and with small models. None of the texts is E2E's, and scores on them
are not to be compared with scores on E2E.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from parbench.bench.util.errors import UserError
from parbench.tasks.data.e2e import Attributes, written
from parbench.tasks.data.source import DataRef

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")
Pair = dict[str, str]

# The attributes and their order are E2E's, so that whatever reads E2E reads this; the values are not.
VALUES: dict[str, tuple[str, ...]] = {
    "name": (
        "The Copper Kettle", "Juniper House", "Harbour Lights", "The Quiet Goose", "Saffron Lane", "Old Mill Kitchen",
        "The Paper Lantern", "Marigold", "North Star", "The Brass Spoon", "Willow and Rye", "Casa Luna",
        "The Blue Anchor", "Pepper Tree", "Station Nine", "The Lazy Fox", "Cedar Table", "Rosa's Corner",
        "The Tin Roof", "Lemon Grove",
    ),
    "eatType": ("bistro", "tavern", "diner", "tea room"),
    "food": ("Greek", "Thai", "Mexican", "Lebanese", "Spanish", "Ethiopian", "Korean"),
    "priceRange": ("cheap", "moderate", "expensive"),
    "customer rating": ("poor", "average", "excellent"),
    "area": ("old town", "harbour", "university quarter"),
    "familyFriendly": ("yes", "no"),
    "near": (
        "Linden Theatre", "the Mill Bridge", "Castle Green", "the Clock Tower", "Victoria Baths", "the Corn Market",
        "Abbey Gardens", "the Ferry Pier",
    ),
}  # fmt: skip
# How many of an example's attributes are besides its name and kind.
FEWEST, MOST_ATTRIBUTES = 1, 6
# References of a meaning.
REFERENCES = (3, 4, 5)
# Far below the number of meanings there are, so that a new one is soon drawn.
LARGEST = 100_000

# Each attribute before the noun, after it, or as a statement of its own; {} is the value.
BEFORE: dict[str, dict[str, tuple[str, ...]]] = {
    "familyFriendly": {"yes": ("family-friendly", "child-friendly"), "no": ("adults-only",)},
    "priceRange": {
        "cheap": ("cheap", "low-priced"),
        "moderate": ("moderately priced", "mid-priced"),
        "expensive": ("expensive", "high-priced"),
    },
    "food": dict.fromkeys(VALUES["food"], ("{}",)),
}
AFTER: dict[str, tuple[str, ...]] = {
    "food": ("serving {} food", "with {} dishes"),
    "customer rating": ("with {a} {} customer rating", "rated {} by its guests"),
    "area": ("in the {}",),
    "near": ("near {}", "close to {}", "next to {}"),
}
STATEMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "food": dict.fromkeys(VALUES["food"], ("serves {} food", "offers {} dishes", "has {} cooking")),
    "priceRange": {
        "cheap": ("is cheap", "has low prices", "will not cost you much"),
        "moderate": ("is moderately priced", "has fair prices", "asks average prices"),
        "expensive": ("is expensive", "has high prices", "is not for a small purse"),
    },
    "customer rating": dict.fromkeys(
        VALUES["customer rating"], ("has {a} {} customer rating", "is rated {} by customers", "gets {} reviews")
    ),
    "area": dict.fromkeys(VALUES["area"], ("is in the {}", "can be found in the {}", "lies in the {}")),
    "familyFriendly": {
        "yes": ("welcomes families", "is good for children", "is family friendly"),
        "no": ("is not for families", "does not welcome children", "is not family friendly"),
    },
    "near": dict.fromkeys(VALUES["near"], ("is near {}", "is close to {}", "stands next to {}")),
}
OPENINGS = (
    "{name} is {noun}.",
    "There is {noun} called {name}.",
    "If you look for {noun}, try {name}.",
    "{name}: that is {noun}.",
    "You may like {name}, {noun}.",
)
SUBJECTS = ("It", "The {kind}", "{name}", "This place")


@dataclass(frozen=True)
class RestaurantSource:
    """Generated pairs of meaning and reference, the same on every machine.

    No meaning is in two splits, and the same words occur in all. The reported examples do not depend on how many others
    there are.

    Attributes:
        train_pairs: rows of the training split.
        selection_meanings: meanings of the selection split, each with three references or more.
        reported_meanings: meanings of the reported split, likewise.
        seed: other numbers give other data.
    """

    train_pairs: int = 400
    selection_meanings: int = 40
    reported_meanings: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train_pairs", "selection_meanings", "reported_meanings"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise UserError(
                    f"{name} of the generated restaurants must be 1 to {LARGEST}, not {getattr(self, name)}"
                )

    def missing(self, data: DataRef) -> str | None:
        """Return that the task asks for other splits than there are, if it does."""
        if data.selection is None or len(data.reported) != 1:
            return f"{data.folder} is not data of one training, one selection and one reported split"
        return None

    def describe(self, data: DataRef) -> str:
        """Return that the data is made by this project."""
        return (
            f"restaurants, text generated by this project ({self.train_pairs} training pairs, "
            f"{self.selection_meanings} meanings for selection, {self.reported_meanings} reported)"
        )

    def revision(self, data: DataRef) -> str:
        """Return the hash of all the rows."""
        text = json.dumps(_splits(self), ensure_ascii=False, sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the splits in the columns of E2E's files, ``mr`` and ``ref``, one row per pair."""
        from datasets import Dataset

        wrong = self.missing(data)
        if wrong or data.selection is None:
            raise UserError(f"the generated restaurants cannot stand for it: {wrong}; give its files with --data-root")
        (reported,) = data.reported.values()
        names = {"train": data.train, "selection": data.selection, "reported": reported}
        return {names[role]: Dataset.from_list(pairs) for role, pairs in _splits(self).items()}


@cache
def _splits(source: RestaurantSource) -> dict[str, list[Pair]]:
    draw = random.Random(f"meanings {source.seed}")  # noqa: S311
    known: set[Attributes] = set()

    def meaning() -> Attributes:
        while (found := _meaning(draw)) in known:
            pass
        known.add(found)
        return found

    def pairs() -> list[Pair]:
        attributes = meaning()
        return [{"mr": written(attributes), "ref": text} for text in references(attributes, source.seed)]

    reported = [pair for _ in range(source.reported_meanings) for pair in pairs()]
    selection = [pair for _ in range(source.selection_meanings) for pair in pairs()]
    train: list[Pair] = []
    while len(train) < source.train_pairs:
        train.extend(pairs())
    return {"train": train[: source.train_pairs], "selection": selection, "reported": reported}


def references(attributes: Attributes, seed: int = 0) -> list[str]:
    """Return different texts on a meaning, three to five; they depend on nothing else."""
    draw = random.Random(f"references {seed} {written(attributes)}")  # noqa: S311
    wanted = _one(draw, REFERENCES)
    texts: dict[str, None] = {}
    while len(texts) < wanted:
        texts[_text(draw, dict(attributes))] = None
    return list(texts)


def _meaning(draw: random.Random) -> Attributes:
    optional = [name for name in VALUES if name not in ("name", "eatType")]
    chosen = _shuffled(draw, optional)[: _one(draw, range(FEWEST, MOST_ATTRIBUTES + 1))]
    return tuple(
        (name, _one(draw, values)) for name, values in VALUES.items() if name not in optional or name in chosen
    )


def _text(draw: random.Random, values: dict[str, str]) -> str:
    name, kind = values["name"], values["eatType"]
    open_to = _shuffled(draw, [attribute for attribute in values if attribute not in ("name", "eatType")])
    # The first sentence has up to three of them; a longer one would be hard to read.
    inside = open_to[: _one(draw, range(min(3, len(open_to)) + 1))]
    before, after, stated = [], [], []
    for attribute in open_to:
        value = values[attribute]
        places = [place for place, known in (("before", BEFORE), ("after", AFTER)) if attribute in known]
        place = _one(draw, places) if attribute in inside else "stated"
        if place == "before":
            before.append((list(BEFORE).index(attribute), _filled(_one(draw, BEFORE[attribute][value]), value)))
        elif place == "after":
            after.append(_filled(_one(draw, AFTER[attribute]), value))
        else:
            stated.append(_filled(_one(draw, STATEMENTS[attribute][value]), value))
    noun = " ".join([*(word for _, word in sorted(before)), kind, *after])
    sentences = [_one(draw, OPENINGS).format(name=name, noun=f"{_article(noun)} {noun}")]
    two_each = [stated[start : start + 2] for start in range(0, len(stated), 2)]
    for subject, statements in zip(_shuffled(draw, SUBJECTS), two_each, strict=False):
        sentences.append(f"{subject.format(name=name, kind=kind)} {' and '.join(statements)}.")
    return " ".join(sentences)


def _filled(template: str, value: str) -> str:
    return template.format(value, a=_article(value))


def _article(phrase: str) -> str:
    return "an" if phrase[0].lower() in "aeio" else "a"


# Python keeps random() the same from version to version, and promises it of nothing that is built on it.
def _one(draw: random.Random, choices: Sequence[T]) -> T:
    return choices[int(draw.random() * len(choices))]


def _shuffled(draw: random.Random, items: Sequence[T]) -> list[T]:
    keys = [draw.random() for _ in items]
    return [item for _, item in sorted(zip(keys, items, strict=True), key=lambda pair: pair[0])]
