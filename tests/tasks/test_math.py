"""Arithmetic word problems: how an answer is found in a text, and what is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.arithmetic import KINDS, REPORTED, TRAINING, GeneratedProblems
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.math_reasoning import MATH, MATH_GENERATED, found_letter, found_number
from tests.support.data import write_jsonl
from tests.support.tiny_llama import Scripted, byte_tokenizer, predictor_of

SETS = ("AddSub", "AQuA", "gsm8k", "MultiArith", "SVAMP", "SingleEq")


def problems(name: str, count: int) -> list[dict[str, Any]]:
    lettered = name == "AQuA"
    return [
        {
            "instruction": f"{name}: what is {n} + 1? ",
            "input": "",
            "output": f"\nRationale: that is {n + 1}. The answer is (B)."
            if lettered
            else f"\nA: The answer is {n + 1}.",
            "answer": "B" if lettered else f"{n + 1}.0",
        }
        for n in range(count)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the six test sets."""
    for name in SETS:
        write_jsonl(tmp_path / "math-llm-adapters" / f"{name}_test.jsonl.gz", problems(name, 40))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 + 4 = 7. The answer is 7.", "7."),
        ("It costs $1,234.50", "1234.50"),
        ("5 - 8 = -3", "-3"),
        ("The answer is 12 apples", "12"),
        ("none", ""),
    ],
)
def test_the_last_number_counts(text: str, found: str) -> None:
    assert found_number(text) == found


@pytest.mark.parametrize(("text", "found"), [("the answer is (C).", "C"), ("Both: D", "B"), ("none", ""), ("F", "")])
def test_the_first_letter_counts_wherever_it_is(text: str, found: str) -> None:
    assert found_letter(text) == found


def test_without_a_training_file_each_test_set_is_cut_in_three(root: Path) -> None:
    source = FolderSource(root)
    assert MATH.missing(source) is None
    assert MATH.describe(source).endswith("(test sets cut in three)")

    splits = MATH.splits(source)

    assert splits.sizes == {"train": 6 * 18, "selection": 6 * 6, "reported": 6 * 16}
    names = [set(split["example"][:]) for split in (splits.train, splits.selection, splits.reported)]
    assert len(set.union(*names)) == 240
    assert set(splits.reported["subset"][:]) == {name.lower() for name in SETS}
    assert MATH.splits(source, limit=7).sizes == {"train": 7, "selection": 7, "reported": 42}


def test_a_solution_that_comes_to_a_wrong_answer_is_not_trained_on(root: Path) -> None:
    made = problems("SVAMP", 40)
    write_jsonl(
        root / "math-llm-adapters" / "SVAMP_test.jsonl.gz", [{**row, "output": "The answer is 0."} for row in made]
    )

    splits = MATH.splits(FolderSource(root))

    assert "svamp" not in {*splits.train["subset"][:], *splits.selection["subset"][:]}
    assert splits.reported["subset"][:].count("svamp") == 16


def test_a_training_file_is_trained_on_and_the_test_sets_are_reported_whole(root: Path) -> None:
    trained = [{**row, "instruction": f"train {row['instruction']}"} for row in problems("gsm8k", 50)]
    write_jsonl(root / "math-llm-adapters" / "math_10k.jsonl", [*trained, *problems("SVAMP", 3)])
    source = FolderSource(root)
    assert not MATH.describe(source).endswith("(test sets cut in three)")

    splits = MATH.splits(source)

    # Three of the training problems are in a test set.
    assert splits.sizes["train"] + splits.sizes["selection"] == 50
    assert splits.sizes["reported"] == 240
    assert not set(splits.reported["instruction"][:]) & set(splits.train["instruction"][:])


def test_the_real_older_training_file_is_the_test_sets_themselves(real_data: Path, tmp_path: Path) -> None:
    """Of its 3260 problems hardly one is left, once those that are reported are out."""
    folder = tmp_path / "math-llm-adapters"
    folder.mkdir()
    for name in SETS:
        (folder / f"{name}_test.jsonl.gz").symlink_to(real_data / "math-llm-adapters" / f"{name}_test.jsonl.gz")
    (folder / "math_10k.jsonl.gz").symlink_to(real_data / "math-llm-adapters" / "math_data_train.jsonl.gz")

    with pytest.raises(UserError, match="give a training file that does not hold the test questions"):
        MATH.splits(FolderSource(tmp_path))


def test_the_real_test_sets_are_read(real_data: Path) -> None:
    splits = MATH.splits(FolderSource(real_data))

    reported = pd.Series(splits.reported["subset"][:]).value_counts().to_dict()
    # Two fifths of 395, 254, 1319, 600, 1000, 508.
    assert reported == {"addsub": 158, "aqua": 102, "gsm8k": 528, "multiarith": 240, "svamp": 400, "singleeq": 203}
    assert not set(splits.reported["instruction"][:]) & set(splits.train["instruction"][:])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "AddSub",
            {"answer": "seven"},
            "AddSub_test split of math, row 1, has the answer 'seven'; it must be a number",
        ),
        ("AQuA", {"answer": "7"}, "AQuA_test split of math, row 1, has the answer '7'; it must be one of the letters"),
    ],
)
def test_an_answer_that_cannot_be_compared_with_is_named(
    root: Path, name: str, change: dict[str, str], message: str
) -> None:
    first, *rest = problems(name, 40)
    write_jsonl(root / "math-llm-adapters" / f"{name}_test.jsonl.gz", [{**first, **change}, *rest])

    with pytest.raises(UserError, match=message):
        MATH.splits(FolderSource(root))


def test_a_missing_set_or_column_is_named(root: Path, tmp_path: Path) -> None:
    svamp = root / "math-llm-adapters" / "SVAMP_test.jsonl.gz"
    write_jsonl(svamp, [{"question": "?"}])
    with pytest.raises(UserError, match="no column instruction, output, answer"):
        MATH.splits(FolderSource(root))
    svamp.unlink()
    assert "no SVAMP_test file" in str(MATH.missing(FolderSource(root)))


def test_answers_are_compared_within_the_tolerance(root: Path) -> None:
    examples = MATH.splits(FolderSource(root)).reported
    places = [examples["subset"][:].index(name) for name in ("addsub", "gsm8k", "svamp", "singleeq", "aqua")]
    chosen = examples.select([*places, places[-1] + 1])
    right = [float(answer) for answer in chosen["answer"][:4]]
    scripted = Scripted(
        [f"so {right[0]:.0f}", f"{right[1] + 0.0009:.4f}", f"{right[2] + 0.0011:.4f}", "?", "(B)", "(C)"]
    )

    found = MATH.predict(scripted, chosen, MATH.prepare(chosen, scripted.processor, 512))  # type: ignore[arg-type]

    assert found["accuracy"].tolist() == [1, 1, 0, 0, 1, 0]
    assert (found["accuracy"] == (found["label"] == found["prediction"])).all()
    assert found["answer"].tolist()[3:] == ["", "B", "C"]
    assert scripted.decoding["max_new_tokens"] == 256
    assert MATH.score(found) == pytest.approx(
        {
            "accuracy": 2.5 / 5,
            "accuracy_addsub": 1,
            "accuracy_gsm8k": 1,
            "accuracy_svamp": 0,
            "accuracy_singleeq": 0,
            "accuracy_aqua": 0.5,
        }
    )


def test_what_follows_a_further_response_is_not_looked_at(root: Path) -> None:
    """LLM-Adapters' evaluation takes ``output.split("### Response:")[1]`` of prompt and text together."""
    examples = MATH.splits(FolderSource(root)).reported.select([0])
    text = f" It is {examples['answer'][0]}.\n\n### Instruction:\nAnd the next?\n\n### Response:\nThat is 987."
    scripted = Scripted([text])

    found = MATH.predict(scripted, examples, MATH.prepare(examples, scripted.processor, 512))  # type: ignore[arg-type]

    assert found["text"].tolist() == [f"{MATH.prompt(examples[0])}{text}".split("### Response:")[1].strip()]
    assert found["accuracy"].tolist() == [1]


def test_the_prompt_and_solution_are_llm_adapters_text(root: Path) -> None:
    example = MATH.splits(FolderSource(root)).train[0]

    text = MATH.prompt(example) + MATH.response(example)
    indent = " " * 16
    assert text.endswith(f"### Response:\n{indent}{example['output']}")
    assert f"### Instruction:\n{indent}{example['instruction']}\n" in text


def test_generated_problems_are_right_and_none_is_both_trained_on_and_reported() -> None:
    source = MATH_GENERATED.own_source
    assert isinstance(source, GeneratedProblems)
    assert MATH_GENERATED.missing(source) is None

    splits = MATH_GENERATED.splits(source)

    assert splits.sizes["train"] + splits.sizes["selection"] == TRAINING
    assert splits.sizes["reported"] == REPORTED * len(KINDS)
    every = [*splits.train, *splits.selection, *splits.reported]
    assert len({row["instruction"] for row in every}) == len(every)
    for row in every:
        assert float(found_number(row["output"])) == float(row["answer"]) >= 0
        for left, right in (part.split(" = ")[:2] for part in row["output"].split(". ")[0].split(", and ")):
            a, sign, b = left.split()[-3:]
            worked = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / int(b)}[sign]
            assert worked == int(right.split()[0])
    again = MATH_GENERATED.splits(GeneratedProblems())
    assert again.train[:] == splits.train[:]


def test_a_model_writes_and_is_scored() -> None:
    source = MATH_GENERATED.own_source
    assert source is not None
    task = MATH_GENERATED.configured({"max_new_tokens": 4})
    splits = task.splits(source, limit=3)
    inputs = task.prepare(splits.reported, byte_tokenizer(), 512)
    predictor = predictor_of(task)

    found = task.predict(predictor, splits.reported, inputs)

    assert set(task.score(found)) == {"accuracy", "accuracy_one_step", "accuracy_two_steps"}
    assert len(found) == 6
    selected = task.selected_by
    assert selected.score(selected.predict(predictor, splits.reported, inputs))["log_likelihood"] < 0
    assert task.configured({"select_by": "accuracy"}).selected_by.primary == "accuracy"
