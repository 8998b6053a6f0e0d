"""Tasks with separate system prompts, and the content of these."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pytest
import torch

from parbench.bench.util.errors import UserError
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.commonsense.task import COMMONSENSE
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.glue import SST2
from parbench.tasks.gpt4tools import UNSEEN, Gpt4Tools, divided
from parbench.tasks.kinds.language_model import LogLikelihood
from parbench.tasks.kinds.system_prompt import IDS, MASK, SystemPrompts, split_system_prompt
from parbench.tasks.math_reasoning import MATH_GENERATED
from tests.support.commonsense_rows import write_sets
from tests.support.tiny_llama import byte_tokenizer, predictor_of, tiny_llama


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("data"))


def test_system_prompts_are_drawn_from_the_training_split_of_the_same_set(data: Path) -> None:
    task = split_system_prompt(COMMONSENSE.configured({"system_shots": 3}))
    splits = task.splits(FolderSource(data))
    alone = {
        (example["subset"], task.prompt(example) + task.response(example)): example["example"]
        for example in splits.train
    }
    for split in (splits.train, splits.selection, splits.reported):
        by_set: dict[str, set[str]] = {}
        for example in split:
            texts = _parted(
                task.system_prompt(example), {text for subset, text in alone if subset == example["subset"]}
            )
            assert len(texts) == 3
            assert example["example"] not in {alone[example["subset"], text] for text in texts}
            by_set.setdefault(example["subset"], set()).add(task.system_prompt(example))
        # Each of its own where it is trained on; one for a set where it is not.
        assert {len(prompts) == 1 for prompts in by_set.values()} == {split is not splits.train}
    again = task.splits(FolderSource(data))
    assert again.train["system_prompt"][:] == splits.train["system_prompt"][:]
    # Neither a limit nor the other prompts move a draw.
    limited = task.splits(FolderSource(data), limit=5).train
    known = dict(zip(splits.train["example"][:], splits.train["system_prompt"][:], strict=True))
    assert all(known[example["example"]] == example["system_prompt"] for example in limited)


def _parted(prompt: str, known: set[str]) -> list[str]:
    """Return the examples that make up a system prompt."""
    found = []
    while prompt:
        (first,) = [text for text in known if prompt == text or prompt.startswith(f"{text}\n\n")]
        found.append(first)
        prompt = prompt.removeprefix(first).removeprefix("\n\n")
    return found


def test_unseen_sets_are_reported_and_no_more(data: Path) -> None:
    unseen = ("hellaswag", "winogrande", "piqa")
    task = COMMONSENSE.configured({"unseen": unseen})
    whole, part = COMMONSENSE.splits(FolderSource(data)), task.splits(FolderSource(data))
    assert part.reported["example"][:] == whole.reported["example"][:]
    for split in ("train", "selection"):
        expected = [
            e
            for e, s in zip(getattr(whole, split)["example"][:], getattr(whole, split)["subset"][:], strict=True)
            if s not in unseen
        ]
        assert getattr(part, split)["example"][:] == expected
    told = split_system_prompt(task).splits(FolderSource(data))
    assert set(told.reported["subset"][:]) == {part.name for part in SETS}
    rows_ = pd.DataFrame({"subset": ["piqa", "siqa", "boolq"], "accuracy": [1.0, 0.0, 0.5]})
    scores = task.score(rows_)
    assert (scores["unseen_mean"], scores["seen_mean"]) == (1.0, 0.25)
    assert "unseen_mean" not in task.score(rows_[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": ("hellaswag", "obqa")}, 'unseen names "obqa", which is not a set; the sets are boolq, piqa'),
        ({"unseen": tuple(part.name for part in SETS)}, "all sets of commonsense are unseen; leave one to train on"),
        ({"system_shots": 50}, "system_shots=50 needs more than 50 training examples of boolq, and there are 18"),
    ],
)
def test_options_that_cannot_be(data: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_system_prompt(COMMONSENSE.configured(options)).splits(FolderSource(data))


@dataclass(frozen=True, kw_only=True)
class ToolsApart(Gpt4Tools):
    """GPT4Tools with the definitions of the tools in the system prompt."""

    def with_system_prompt(self) -> Self:
        return self.configured({"tools": "cloud"})

    def system_prompt(self, example: Mapping[str, Any]) -> str:
        return divided(example["instruction"])[0]


def tools(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        known = ("Edit", "Detect", "Draw")[number % 3]
        yield {
            "instruction": f"GPT4Tools can use {known}. Previous conversation: \nHuman: {number}\nAI: ",
            "output": f"Thought: Do I need to use a tool? Yes\nAction: {known}\nAction Input: {number}.png\n",
        }


class Recording(torch.nn.Module):
    """A model that remembers which system prompts it is given, and does nothing with them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_llama()
        self.given: list[tuple[str, str | None]] = []

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)

    def generate(self, **arguments: Any) -> Any:
        return self.inner.generate(**arguments)

    @contextmanager
    def specialised(self, tokens: list[int], name: str | None = None) -> Iterator[None]:
        self.given.append((byte_tokenizer().decode(tokens), name))
        yield


def test_the_tools_are_defined_apart(tmp_path: Path) -> None:
    folder = tmp_path / "gpt4tools"
    folder.mkdir()
    for name, count in (("gpt4tools_71k", 20), ("gpt4tools_test_unseen", 5)):
        (folder / f"{name}.json").write_text(json.dumps(list(tools(count))))
    task = split_system_prompt(ToolsApart(name=UNSEEN.name, data=UNSEEN.data).configured({"max_new_tokens": 4}))
    reported, tokenizer = task.splits(FolderSource(tmp_path)).reported, byte_tokenizer()
    inputs = task.prepare(reported, tokenizer, 200)
    assert tokenizer.decode(inputs[0]["prompt"]) == "Previous conversation: \nHuman: 0\nAI: "

    prompts = SystemPrompts(task, lambda text: tokenizer(text)["input_ids"])
    for by in (task, LogLikelihood()):
        model = Recording()
        predictor = predictor_of(task, model)
        frame = prompts.predicted(by, predictor, reported, inputs)
        # Of each prompt once; none of them is that of the whole split.
        assert model.given == [(f"GPT4Tools can use {name}. ", None) for name in ("Edit", "Detect", "Draw")]
        expected = by.predict(predictor, reported, inputs)
        pd.testing.assert_frame_equal(frame, expected, rtol=1e-5)

    rows = prompts.beside(inputs, reported).select([4, 0])
    batch = prompts.collate(task.collate(tokenizer))([rows[0], rows[1]])
    texts = [tokenizer.decode(ids[mask.bool()]) for ids, mask in zip(batch[IDS], batch[MASK], strict=True)]
    assert texts == ["GPT4Tools can use Detect. ", "GPT4Tools can use Edit. "]
    assert batch["input_ids"][0].tolist() == rows[0]["input_ids"]


def test_a_prompt_of_a_whole_subset_has_its_name(data: Path) -> None:
    task = split_system_prompt(COMMONSENSE.configured({"system_shots": 1, "num_beams": 1, "max_new_tokens": 2}))
    reported, tokenizer = task.splits(FolderSource(data), limit=2).reported, byte_tokenizer()
    model = Recording()
    prompts = SystemPrompts(task, lambda text: tokenizer(text)["input_ids"])
    # Out of order, as no task promises one.
    mixed = reported.select([15, 0, 7, 1, 6])
    frame = prompts.predicted(task, predictor_of(task, model), mixed, task.prepare(mixed, tokenizer, 400))
    assert frame["example"].tolist() == mixed["example"][:]
    assert [name for _, name in model.given] == list(dict.fromkeys(mixed["subset"][:]))


def test_a_task_without_a_system_prompt_is_reported() -> None:
    with pytest.raises(UserError, match="math_generated has no system prompt, which the method reads"):
        split_system_prompt(MATH_GENERATED)
    with pytest.raises(UserError, match="glue/sst2 is not for a language model, and has no system prompt"):
        split_system_prompt(SST2)
