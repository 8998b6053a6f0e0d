"""Parsing and scoring of texts that should use tools: the rules of GPT4Tools' official evaluation.

Yang et al., "GPT4Tools: Teaching Large Language Model to Use Tools via Self-instruction", NeurIPS 2023; code
AILab-CVC/GPT4Tools, commit 643faa8, ``eval/evaluate_result.py``. Their quirks are kept, since published
numbers have them:

- an argument with a comma in it counts as two arguments;
- of a file's name only ".png" is compared;
- a text that uses no tool where none is needed has all its actions right, any other has none;
- the similarity of two arguments is BLEU-1 as pycocoevalcap computes it, which is 1e-9 below 1 for equal ones, and
  is case-sensitive on words split at white space.
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
# The thought of a text that needs no tool.
NO = "No"
# The share of the arguments that must be right for a success.
ENOUGH = 0.5


class TraceScores(NamedTuple):
    """Scores of one text, 0 to 1: its thoughts, actions and arguments, whether all succeeded, and their overlap."""

    sr_thought: float
    sr_action: float
    sr_args: float
    sr: float
    iou: float


@dataclass(frozen=True)
class AgentTrace:
    """The thoughts, actions and arguments of a text in order, and whether it has an answer."""

    thoughts: list[str]
    actions: list[str]
    arguments: list[str]
    answers: bool

    @classmethod
    def of(cls, text: str) -> AgentTrace:
        """Read a text."""
        thoughts, actions, arguments = (
            [found.strip() for found in pattern.findall(text)] for pattern in (THOUGHT, ACTION, ARGUMENTS)
        )
        return cls(thoughts, actions, arguments, bool(ANSWER.search(text)))


def uses_tools(wanted: str) -> bool:
    """Return whether a reference uses tools."""
    return "Action:" in wanted and "Action Input:" in wanted


def check_wanted(wanted: str) -> None:
    """Check that a text can serve as a reference.

    Raises:
        UserError: it has no thought, or not as many arguments as actions.
    """
    steps = AgentTrace.of(wanted)
    if not steps.thoughts:
        raise UserError('the output has no line "Thought: Do I need to use a tool? ..."')
    if uses_tools(wanted) and (not steps.actions or len(steps.actions) != len(steps.arguments)):
        raise UserError(f"the output has {len(steps.actions)} actions, and inputs for {len(steps.arguments)}")


def scores(text: str, wanted: str) -> TraceScores:
    """Return the scores of a generated text against a reference that `check_wanted` has passed."""
    written, right = AgentTrace.of(text.strip()), AgentTrace.of(wanted)
    return _with_tools(written, right) if uses_tools(wanted) else _without(written, right)


def _with_tools(written: AgentTrace, right: AgentTrace) -> TraceScores:
    thoughts = written.thoughts
    if len(thoughts) == len(written.actions) + 1 and thoughts[-1] == NO:
        # A last thought that no further tool is needed is not a mistake.
        thoughts = thoughts[:-1]
    by_part = (
        _matches(thoughts, right.thoughts[: len(right.actions)]),
        _matches(written.actions, right.actions),
        _similarities(written.arguments, right.arguments),
    )
    thought, action, arguments = (float(found.mean()) for found, _ in by_part)
    success = thought >= 1 and action >= 1 and arguments >= ENOUGH
    found, asked = (np.concatenate(parts) for parts in zip(*by_part, strict=True))
    return TraceScores(thought, action, arguments, float(success), _overlap(found, asked))


def _without(written: AgentTrace, right: AgentTrace) -> TraceScores:
    found, asked = _matches(written.thoughts, right.thoughts)
    refrained = bool(written.thoughts) and written.thoughts[0] == NO and written.answers
    thought = float(found.mean()) if refrained else 0.0
    success = float(thought >= 1)
    return TraceScores(thought, success, success, success, _overlap(found, asked))


def _matches(written: Sequence[str], right: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return hits and asked-for places, of shape (the longer's length,) each."""
    hits = [float(one == other) for one, other in zip(written, right, strict=False)]
    return _padded(hits, written, right)


def _similarities(written: Sequence[str], right: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    return _padded([_similarity(one, other) for one, other in zip(written, right, strict=False)], written, right)


def _padded(found: list[float], written: Sequence[str], right: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    longest = max(len(written), len(right))
    asked = [1.0] * len(right) + [0.0] * (longest - len(right))
    return np.array(found + [0.0] * (longest - len(found))), np.array(asked)


def _overlap(found: np.ndarray, asked: np.ndarray) -> float:
    return float((found * asked).sum() / max(np.maximum(found, asked).sum(), 1.0))


def _similarity(written: str, right: str) -> float:
    """Return the similarity of the arguments of one action."""
    wanted, given = right.split(","), written.split(",")
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
