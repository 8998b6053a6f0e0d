"""Questions about digits: tasks with images and text that are small enough for any machine.

What scores of ``vl/one_digit_qa`` are to be read beside, on the first 100 reported questions of each kind, exact match:
"yes" always 37.0, which reports compare with; to each kind of question its most frequent answer, without a look at
the image, 42.0; ViT-S and SmolLM2 with an untrained connector 0.0, by
``bench run --suite mini --methods linear_probe --tasks vl/one_digit_qa --set train.max_steps=0``. The same without
``--set`` is the trained connector without an adapter: 46.7, where LoRA has 61.3 and LoCA 47.7, of one seed each.
LoCA's is hardly above the connector's own.

``vl/digits_qa`` costs twice as much per question, and its questions ask for more: no score of it is known yet.
"""

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
        # What a text begins with is hard to read for a language model, which rests its attention there.
        prompt_template=Template("{question}<image>"),
        response_template=Template(" {answer}"),
        metrics=("exact_match",),
        options=ImageTextOptions(max_new_tokens=3),
        own_source=DigitQuestions(digits),
    )


DIGITS_QA = _questions("digits_qa", 4)
ONE_DIGIT_QA = _questions("one_digit_qa", 1)
