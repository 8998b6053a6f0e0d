"""FastChat's judge prompts, read from its ``judge_prompts.jsonl`` and filled as ``fastchat.llm_judge.common`` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from parbench.bench.util.errors import UserError
from parbench.bench.util.surrogates import lone_surrogate
from parbench.tasks.judge.outcome import Message

# Categories that are graded against a reference answer: `NEED_REF_CATS` of fastchat.llm_judge.common 0.2.36.
NEED_REFERENCE = frozenset({"math", "reasoning", "coding", "arena-hard-200"})

PromptType = Literal["single", "pairwise"]

_REFERENCE = {1: {"ref_answer_1"}, 2: {"ref_answer_1", "ref_answer_2"}}
_QUESTION = {1: {"question"}, 2: {"question_1", "question_2"}}
_ANSWER = {
    ("single", 1): {"answer"},
    ("single", 2): {"answer_1", "answer_2"},
    ("pairwise", 1): {"answer_a", "answer_b"},
    ("pairwise", 2): {"answer_a_1", "answer_a_2", "answer_b_1", "answer_b_2"},
}


@dataclass(frozen=True)
class JudgePrompt:
    """One line of ``judge_prompts.jsonl``.

    Attributes:
        name: such as ``single-math-v1-multi-turn``.
        kind: one answer is rated, or two are compared.
        system: the system message.
        template: the user's message, with fields in braces.
        output_format: the form of the verdict.
    """

    name: str
    kind: PromptType
    system: str
    template: str
    output_format: str

    def messages(self, fields: Mapping[str, str]) -> tuple[Message, ...]:
        """Return the chat that FastChat sends to an OpenAI model: no system message where the prompt's is empty."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return (*system, {"role": "user", "content": self.template.format(**fields)})


def prompt_name(kind: PromptType, turn: int, with_reference: bool) -> str:
    """Return the name of the one of FastChat's eight prompts that judges a turn (1 or 2)."""
    stem = {("single", False): "single-v1", ("single", True): "single-math-v1"}
    stem |= {("pairwise", False): "pair-v2", ("pairwise", True): "pair-math-v1"}
    return stem[kind, with_reference] + ("-multi-turn" if turn == 2 else "")


def single_fields(turns: Sequence[str], answers: Sequence[str], reference: Sequence[str], turn: int) -> dict[str, str]:
    """Return the fields of a prompt that rates one answer; ``reference`` is empty where there is none."""
    if turn == 1:
        fields = {"question": turns[0], "answer": answers[0]}
    else:
        fields = {f"question_{place}": turns[place - 1] for place in (1, 2)}
        fields |= {f"answer_{place}": answers[place - 1] for place in (1, 2)}
    return fields | _reference_fields(reference, turn)


def pair_fields(
    turns: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str], reference: Sequence[str], turn: int
) -> dict[str, str]:
    """Return the fields of a prompt that compares two answers."""
    if turn == 1:
        fields = {"question": turns[0], "answer_a": answers_a[0], "answer_b": answers_b[0]}
    else:
        fields = {f"question_{place}": turns[place - 1] for place in (1, 2)}
        fields |= {f"answer_a_{place}": answers_a[place - 1] for place in (1, 2)}
        fields |= {f"answer_b_{place}": answers_b[place - 1] for place in (1, 2)}
    return fields | _reference_fields(reference, turn)


def read_prompts(path: Path) -> dict[str, JudgePrompt]:
    """Read ``judge_prompts.jsonl``.

    Raises:
        UserError: the file or one of the eight prompts is missing or not in FastChat's form.
    """
    prompts = {prompt.name: prompt for prompt in _prompts(path)}
    for kind in ("single", "pairwise"):
        for turn in (1, 2):
            for with_reference in (False, True):
                name = prompt_name(kind, turn, with_reference)
                if name not in prompts:
                    raise UserError(f'"{path}" has no prompt "{name}"; take FastChat\'s judge_prompts.jsonl')
                expected = _QUESTION[turn] | _ANSWER[kind, turn] | (_REFERENCE[turn] if with_reference else set())
                _check_fields(prompts[name], expected, path)
    return prompts


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line that is not blank.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'"{path}" cannot be read ({error}); put FastChat\'s file there') from error
    # Not `splitlines`: a JSON string may hold a line separator of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f'line {number} of "{path}" is not JSON ({error}); replace the file') from error
        if not isinstance(row, dict):
            raise UserError(f'line {number} of "{path}" is not a JSON object; replace the file')
        for name, value in row.items():
            if half := lone_surrogate([name, value]):
                raise UserError(
                    f'line {number} of "{path}" has half a character ({half}) in {name!r}; write the whole character '
                    "or remove it"
                )
        yield number, row


def _reference_fields(reference: Sequence[str], turn: int) -> dict[str, str]:
    return {f"ref_answer_{place}": reference[place - 1] for place in range(1, turn + 1)} if reference else {}


def _prompts(path: Path) -> Iterator[JudgePrompt]:
    for number, row in read_json_lines(path):
        values = [row.get(name) for name in ("name", "type", "system_prompt", "prompt_template", "output_format")]
        if not all(isinstance(value, str) for value in values):
            raise UserError(f'line {number} of "{path}" is not a judge prompt; take FastChat\'s judge_prompts.jsonl')
        yield JudgePrompt(*values)  # type: ignore[arg-type]


def _check_fields(prompt: JudgePrompt, expected: set[str], path: Path) -> None:
    try:
        found = {field for _, field, _, _ in Formatter().parse(prompt.template) if field is not None}
    except ValueError as error:
        raise UserError(f'the template "{prompt.name}" in "{path}" is broken ({error}); replace the file') from error
    # Exactly these names: a field such as {answer.__class__} would read attributes of objects.
    if found != expected:
        raise UserError(
            f'the template "{prompt.name}" in "{path}" has the fields {", ".join(sorted(found)) or "none"} instead of '
            f"{', '.join(sorted(expected))}; replace the file"
        )
