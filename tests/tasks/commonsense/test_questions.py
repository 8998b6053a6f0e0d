"""A question has the same content in LLM-Adapters' words, in the hub's columns and in lm-eval's prompt."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.commonsense.questions import CommonsenseSet
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.lm_eval_bridge import Documents, right_answers
from tests.support.commonsense_rows import rows as generated

BY_NAME = {part.name: part for part in SETS}
# Where LLM-Adapters' test rows are the hub's validation rows, in the same order.
PAIRED = {"boolq": "boolq", "piqa": "piqa", "siqa": "social_i_qa", "winogrande": "winogrande"}


def rows(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for number, line in enumerate(file) if most is None or number < most]


@pytest.mark.parametrize("part", SETS, ids=lambda part: part.name)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_real_instruction_is_read_and_written_back(part: CommonsenseSet, split: str, real_data: Path) -> None:
    for row in rows(real_data / part.data[0].folder / f"{split}.jsonl.gz", most=1500):
        asked = part.asked(row)

        assert part.wording.instruction(asked) == row["instruction"]
        name = part.wording.names(len(asked.choices))[asked.label]
        assert name == row["answer"]
        assert f"the correct answer is {name}" == row["output"]


@pytest.mark.parametrize("name", PAIRED)
def test_the_hubs_rows_say_what_the_instructions_say(name: str, real_data: Path) -> None:
    part = BY_NAME[name]
    ours = rows(real_data / "commonsense" / "hf_columns" / f"{PAIRED[name]}_validation.jsonl.gz")
    theirs = rows(real_data / part.data[0].folder / "test.jsonl.gz")

    assert len(ours) == len(theirs)
    for row, other in zip(ours, theirs, strict=True):
        asked = part.asked(row)
        assert part.wording.instruction(asked) == other["instruction"]
        assert part.wording.names(len(asked.choices))[asked.label] == other["answer"]


def test_hellaswag_rows_are_among_the_instructions(real_data: Path) -> None:
    part = BY_NAME["hellaswag"]
    theirs = {row["instruction"]: row["answer"] for row in rows(real_data / "commonsense/hellaswag/test.jsonl.gz")}

    for row in rows(real_data / "commonsense/hf_columns/hellaswag_validation_3000.jsonl.gz"):
        asked = part.asked(row)
        assert theirs[part.wording.instruction(asked)] == f"ending{asked.label + 1}"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("piqa", "piqa_validation"),
        ("siqa", "social_i_qa_validation"),
        ("hellaswag", "hellaswag_validation_3000"),
        ("winogrande", "winogrande_validation"),
        ("arc_easy", "arc_easy_validation"),
        ("arc_challenge", "arc_challenge_validation"),
        ("openbookqa", "openbookqa_validation"),
    ],
)
def test_lm_eval_shows_an_instruction_as_it_shows_the_original(name: str, file: str, real_data: Path) -> None:
    part = BY_NAME[name]
    originals = rows(real_data / "commonsense" / "hf_columns" / f"{file}.jsonl.gz", most=120)
    asked = [part.asked(row) for row in originals]
    instructions = [
        {"instruction": part.wording.instruction(each), "answer": part.wording.names(len(each.choices))[each.label]}
        for each in asked
    ]
    labels = {name: [each.label for each in asked]}

    def shown(given: list[Any]) -> list[tuple[str, str]]:
        documents = [document for document in map(part.document, given) if document is not None]
        return right_answers({name: Documents(part.benchmark, documents)}, labels)[name]

    assert len(asked) == len(shown(originals))
    assert shown(instructions) == shown(originals)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the correct answer is solution2", "solution2"),
        ("solution1, not solution2", "solution1"),
        ("Solution1", ""),
        ("", ""),
    ],
)
def test_the_first_answer_of_a_text_counts(text: str, found: str) -> None:
    assert BY_NAME["piqa"].wording.answered(text) == found


def test_each_set_has_the_answers_that_llm_adapters_looks_for() -> None:
    assert {name: part.wording.known for name, part in BY_NAME.items()} == {
        "boolq": ("false", "true"),
        "piqa": ("solution1", "solution2"),
        "siqa": (five := ("answer1", "answer2", "answer3", "answer4", "answer5")),
        "hellaswag": ("ending1", "ending2", "ending3", "ending4"),
        "winogrande": ("option1", "option2"),
        "arc_easy": five,
        "arc_challenge": five,
        "openbookqa": five,
    }


# By set: the values that the hub's column has, in the types that other programs make of them; the numbers of the
# choices; and the value that lm-eval needs.
WRITTEN = {
    "boolq": ("label", [1, True, "True", "true", "1", 1.0], 1, 1),
    "piqa": ("label", [1, "1", 1.0, "1.0", True], 1, 1),
    "siqa": ("label", ["2", 2, 2.0, "2.0"], 1, "2"),
    "hellaswag": ("label", ["1", 1, 1.0], 1, "1"),
    "winogrande": ("answer", ["2", 2, 2.0], 1, "2"),
}
# What could be one choice or another, or is none.
UNCLEAR = {"boolq": [2, None, "maybe"], "piqa": [2, -1, "", 0.5], "siqa": [True, 0, 1.7], "winogrande": [True, 0]}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRITTEN for value in WRITTEN[name][1]])
def test_labels_are_read_whatever_type_a_program_has_made_of_them(name: str, value: Any) -> None:
    column, _, label, expected = WRITTEN[name]
    part = BY_NAME[name]
    (row,) = generated(name, 1, seed=3)
    changed = {**row, column: value}
    assert part.asked(changed).label == label
    document = part.document(changed)
    assert document is not None
    assert document[column] == expected
    assert type(document[column]) is type(expected)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in UNCLEAR for value in UNCLEAR[name]])
def test_labels_that_could_mean_several_choices_are_refused(name: str, value: Any) -> None:
    (row,) = generated(name, 1, seed=3)
    with pytest.raises(UserError, match=r"has the label .*, which must be one of"):
        BY_NAME[name].asked({**row, WRITTEN[name][0]: value})


def test_figures_that_name_choices_are_names_in_any_type() -> None:
    part = BY_NAME["arc_easy"]
    row = {"question": "which?", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": 2}
    assert part.asked(row).label == 1
    assert part.document(row) == {**row, "answerKey": "2"}
    assert part.asked({**row, "choices": {"text": ["a", "b"], "label": [1, 2]}, "answerKey": "2 "}).label == 1
    with pytest.raises(UserError, match="has the answerKey 1, which must be one of A, B, C"):
        part.asked({**row, "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": 1})
