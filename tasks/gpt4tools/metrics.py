"""How a text that should use tools is read and scored: the rules of GPT4Tools' official evaluation.

Yang et al., "GPT4Tools: Teaching Large Language Model to Use Tools via Self-instruction", NeurIPS 2023; code
AILab-CVC/GPT4Tools, commit 643faa8, ``eval/evaluate_result.py``. The rules have their quirks, which are kept, since
published numbers have them:

- an argument with a comma in it counts as two arguments;
- of a file's name only ".png" is looked at;
- a text that uses no tool where none is needed has all its actions right; one that does otherwise has none;
- the similarity of two arguments is BLEU-1 as pycocoevalcap computes it, which is a billionth under 1 where they are
  equal, and counts words cut at white space, with their case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from parbench.bench.util.errors import UserError

THOUGHT = re.compile(r"Thought: Do I need to use a tool\? (.*)")
ACTION = re.compile(r"Action: (.*)")
ARGUMENTS = re.compile(r"Action Input: (.*)")
ANSWER = re.compile(r"AI: (.*)")
# What the thought of somebody who needs no tool says.
NO = "No"
# So much of the arguments must be right for a text to be a success.
ENOUGH = 0.5


class Scores(NamedTuple):
    """What one text is worth, 0 to 1: its thoughts, actions and arguments, whether all succeeded, and their overlap."""

    sr_thought: float
    sr_action: float
    sr_args: float
    sr: float
    iou: float


@dataclass(frozen=True)
class Steps:
    """What a text thinks, does and says, in its order."""

    thoughts: list[str]
    actions: list[str]
    arguments: list[str]
    answers: bool

    @classmethod
    def of(cls, text: str) -> Steps:
        """Read a text."""
        thoughts, actions, arguments = (
            [found.strip() for found in pattern.findall(text)] for pattern in (THOUGHT, ACTION, ARGUMENTS)
        )
        return cls(thoughts, actions, arguments, bool(ANSWER.search(text)))


def uses_tools(wanted: str) -> bool:
    """Tell whether a right text is one that uses tools."""
    return "Action:" in wanted and "Action Input:" in wanted


def check_wanted(wanted: str) -> None:
    """Check that a right text can be scored against.

    Raises:
        UserError: it has no thought, or not as many arguments as actions.
    """
    steps = Steps.of(wanted)
    if not steps.thoughts:
        raise UserError('the output has no line "Thought: Do I need to use a tool? ..."')
    if uses_tools(wanted) and (not steps.actions or len(steps.actions) != len(steps.arguments)):
        raise UserError(f"the output has {len(steps.actions)} actions, and inputs for {len(steps.arguments)}")


def scores(text: str, wanted: str) -> Scores:
    """Return what a generated text is worth beside the right one, which `check_wanted` has passed."""
    said, right = Steps.of(text.strip()), Steps.of(wanted)
    return _with_tools(said, right) if uses_tools(wanted) else _without(said, right)


def _with_tools(said: Steps, right: Steps) -> Scores:
    thoughts = said.thoughts
    if len(thoughts) == len(said.actions) + 1 and thoughts[-1] == NO:
        # It is no mistake to ask once more, when all is done.
        thoughts = thoughts[:-1]
    by_part = (
        _matches(thoughts, right.thoughts[: len(right.actions)]),
        _matches(said.actions, right.actions),
        _similarities(said.arguments, right.arguments),
    )
    thought, action, arguments = (float(found.mean()) for found, _ in by_part)
    success = thought >= 1 and action >= 1 and arguments >= ENOUGH
    found, asked = (np.concatenate(parts) for parts in zip(*by_part, strict=True))
    return Scores(thought, action, arguments, float(success), _overlap(found, asked))


def _without(said: Steps, right: Steps) -> Scores:
    found, asked = _matches(said.thoughts, right.thoughts)
    refrained = bool(said.thoughts) and said.thoughts[0] == NO and said.answers
    thought = float(found.mean()) if refrained else 0.0
    success = float(thought >= 1)
    return Scores(thought, success, success, success, _overlap(found, asked))


def _matches(said: Sequence[str], right: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return, place by place, what is right and what is asked for, of shape (the longer's length,) each."""
    hits = [float(one == other) for one, other in zip(said, right, strict=False)]
    return _padded(hits, said, right)


def _similarities(said: Sequence[str], right: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    return _padded([_similarity(one, other) for one, other in zip(said, right, strict=False)], said, right)


def _padded(found: list[float], said: Sequence[str], right: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    longest = max(len(said), len(right))
    asked = [1.0] * len(right) + [0.0] * (longest - len(right))
    return np.array(found + [0.0] * (longest - len(found))), np.array(asked)


def _overlap(found: np.ndarray, asked: np.ndarray) -> float:
    return float((found * asked).sum() / max(np.maximum(found, asked).sum(), 1.0))


def _similarity(said: str, right: str) -> float:
    """Return how alike the arguments of one action are."""
    wanted, given = right.split(","), said.split(",")
    if len(wanted) != len(given):
        return 0.0
    values = []
    for asked, answer in zip(wanted, given, strict=True):
        if ".png" not in asked:
            values.append(bleu_1(answer, asked))
        elif ".png" in answer:
            values.append(1.0)
        else:
            return 0.0
    return float(np.mean(values))


def bleu_1(text: str, reference: str) -> float:
    """Return BLEU-1 of one text against one reference."""
    from pycocoevalcap.bleu.bleu import Bleu

    found, _ = Bleu(n=1).compute_score({1: [reference]}, {1: [text]}, verbose=0)
    return float(found[0])
