"""Questions about digits: tasks with images and text that are small enough for any machine."""

from __future__ import annotations

from parbench.bench.util.reference import Reference
from parbench.tasks.data.digit_questions import KINDS, DigitQuestions
from parbench.tasks.data.source import DataRef
from parbench.tasks.kinds.image_text import ImageTextGeneration, ImageTextOptions
from parbench.tasks.kinds.text_generation import Template


def _questions(name: str, digits: int) -> ImageTextGeneration:
    return ImageTextGeneration(
        name=f"vl/{name}",
        reference=Reference("Questions about images of digits, made up by parbench", 2026, "parbench"),
        data=DataRef(name, "train", {kind: kind for kind in KINDS[digits]}, selection="selection", images=("image",)),
        prompt_template=Template("{question} Answer:"),
        response_template=Template(" {answer}"),
        metrics=("exact_match",),
        options=ImageTextOptions(max_new_tokens=3),
        own_source=DigitQuestions(digits),
    )


DIGITS_QA = _questions("digits_qa", 4)
ONE_DIGIT_QA = _questions("one_digit_qa", 1)
