"""Questions as rows of a dataset: the reported split of a task whose answers are judged."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from parbench.tasks.judge.prompts import JudgePrompt, prompt_name
from parbench.tasks.judge.questions import Question, QuestionSet

if TYPE_CHECKING:
    from datasets import Dataset


def as_rows(questions: QuestionSet) -> Dataset:
    """Return one row per question, with all that is needed to ask it and to judge the answers."""
    from datasets import Dataset

    def judged_by(question: Question) -> list[JudgePrompt]:
        names = (prompt_name("single", turn, bool(question.reference)) for turn in range(1, len(question.turns) + 1))
        return [questions.prompts[name] for name in names]

    return Dataset.from_list(
        [
            {
                "example": f"{questions.name}:{question.question_id}",
                "subset": "",
                # The columns of a single pair: the first turn, and no response.
                "instruction": question.turns[0],
                "input": "",
                "output": "",
                "question_id": question.question_id,
                "category": question.category,
                "turns": list(question.turns),
                "reference": list(question.reference),
                "judge_prompts": [asdict(prompt) for prompt in judged_by(question)],
            }
            for question in questions.questions
        ]
    )


def questions_of(rows: Dataset) -> QuestionSet:
    """Return the questions of some rows of `as_rows`."""
    found = tuple(
        Question(row["question_id"], row["category"], tuple(row["turns"]), tuple(row["reference"])) for row in rows
    )
    prompts = {prompt["name"]: JudgePrompt(**prompt) for row in rows for prompt in row["judge_prompts"]}
    return QuestionSet(rows[0]["example"].partition(":")[0], found, prompts, hashes={}, origin="")
