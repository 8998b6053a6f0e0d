"""Answers in a store that `bench judge compare` compares, and what it has written."""

from __future__ import annotations

import json

from parbench.bench.store.layout import COMPARISONS
from tests.support.judge_stub import chat

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 82, "category": "writing", "turns": ["Tell.", "More."]},
    {"question_id": 101, "category": "math", "turns": ["1+1?", "+1?"]},
    {"question_id": 102, "category": "math", "turns": ["2+2?", "+2?"]},
]
TASK = "mt_bench"


def prefers(method, but=()):
    """Answer for a method wherever it stands; ``but`` of the questions always for the first answer."""

    def script(request, number):
        text = request["messages"][-1]["content"]
        if any(question in text for question in but):
            return chat("I take [[A]]")
        others = {"loca": "lora", "lora": "loca"}
        return chat("[[A]]" if text.index(f"{method} of") < text.index(f"{others[method]} of") else "[[B]]")

    return script


def written(store):
    """Return the one comparison that is written, and its lines by what they are of."""
    (path,) = (store.root / COMPARISONS).glob("*.json")
    content = json.loads(path.read_text())
    return content, {line["of"]: line for line in content["lines"]}
