"""Prompts that an encoder reads beside images or features: cut as their tokenizer cuts them, and not without a word."""

import warnings

import pytest
from tokenizers.processors import TemplateProcessing

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.train.prepare import prepare
from parbench.tasks import TASKS
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.lock import RevisionLock
from tests.support.tiny_vl_bart_video import vl_bart_video_folder, vl_bart_video_processor
from tests.support.value_files import value_folder

TASK = "vl/tvqa"


@pytest.fixture
def root(tmp_path):
    value_folder(tmp_path / "data")
    return tmp_path / "data"


def test_a_prompt_is_cut_as_its_tokenizer_cuts(root):
    """The one of BART puts an end of text behind every text, also behind what is cut."""
    task = TASKS[TASK]
    data = task.splits(DataLocation("hub", str(root / "lock.json"), str(root)).source(task)).train
    for ends in ("<s> $A </s>", "$A"):
        processor = vl_bart_video_processor()
        special = [("<s>", 1), ("</s>", 2)]
        processor.tokenizer._tokenizer.post_processor = TemplateProcessing(single=ends, special_tokens=special)
        expected = processor.tokenizer(task.prompt(data[1]), truncation=True, max_length=50)["input_ids"]
        assert len(expected) == 50
        assert task.prepare(data, processor, 50)[1]["input_ids"] == expected


def test_cut_prompts_are_noted(root, tmp_path):
    folder = vl_bart_video_folder(tmp_path / "model")

    def notes(length):
        overrides = Overrides(
            methods=("lora",),
            tasks=(TASK,),
            base_model=str(folder),
            seeds=(1,),
            sets=(f"train.max_length={length}",),
            data_root=root,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prepare(run)
        return [str(entry.message) for entry in caught if "train.max_length" in str(entry.message)]

    (cut,) = notes(50)
    assert cut == "100% of the training prompts have more than 50 tokens, train.max_length, and lost their end"
    assert notes(400) == []
