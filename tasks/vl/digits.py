"""Questions about digits: a task with images and text that is small enough for any machine."""

from __future__ import annotations

from parbench.bench.util.reference import Reference
from parbench.tasks.data.digit_questions import KINDS, DigitQuestions
from parbench.tasks.data.source import DataRef
from parbench.tasks.kinds.image_text import ImageTextGeneration, ImageTextOptions
from parbench.tasks.kinds.text_generation import Template

DIGITS_QA = ImageTextGeneration(
    name="vl/digits_qa",
    reference=Reference("Questions about images of digits, made up by parbench", 2026, "parbench"),
    data=DataRef("digits-qa", "train", {kind: kind for kind in KINDS}, selection="selection", images=("image",)),
    prompt_template=Template("{question} Answer:"),
    response_template=Template(" {answer}"),
    metrics=("exact_match",),
    options=ImageTextOptions(max_new_tokens=4),
    own_source=DigitQuestions(),
)
