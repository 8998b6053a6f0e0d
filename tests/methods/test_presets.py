import re
from importlib.resources import files

import pytest

from parbench.bench.train.settings import TrainingSettings
from parbench.methods import METHODS
from parbench.methods.presets import Preset, find_preset, presets_of

WITH_PRESETS = sorted(
    entry.name.removesuffix(".yaml")
    for entry in files("parbench.methods.presets").iterdir()
    if entry.name.endswith(".yaml")
)
VISION = ("oxford_pets", "stanford_cars", "cifar10", "dtd", "eurosat", "fgvc_aircraft", "resisc45", "cifar100")
TASKS = {
    *(f"glue/{name}" for name in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")),
    *(f"vision/{name}" for name in VISION),
    *(f"vl/{name}" for name in ("vqa_v2", "gqa", "nlvr2", "coco_caption")),
    *(f"vl/{name}" for name in ("tvqa", "how2qa", "tvc", "yc2c")),
    "e2e_nlg",
    "commonsense",
}
BASE_MODELS = {
    *("roberta-base", "roberta-large", "gpt2-medium", "gpt2-large", "vit-base", "vit-large"),
    *("llama-7b", "llama-13b", "llama2-7b", "llama3-8b", "vl-bart", "vl-bart-video"),
}
ALL = [(method, preset) for method in WITH_PRESETS for preset in presets_of(method)]


def test_every_file_is_of_a_method():
    assert set(WITH_PRESETS) <= set(METHODS)
    assert {"lora", "loca", "dora", "fourierft", "vera"} <= set(WITH_PRESETS)


@pytest.mark.parametrize(("method", "preset"), ALL, ids=[f"{method}-{preset.base_model}" for method, preset in ALL])
def test_a_preset_fits_its_method_and_the_training(method: str, preset: Preset):
    assert preset.base_model in BASE_MODELS
    assert set(preset.tasks) <= TASKS
    assert re.search(r"arXiv \d{4}\.\d{5}.*Table [A\d]", preset.source, re.DOTALL)
    assert preset.not_published
    for task in preset.tasks:
        on_task = preset.on(task)
        METHODS[method].setting_type.model_validate(on_task.setting)
        assert set(on_task.training) <= set(TrainingSettings.model_fields)
        TrainingSettings.model_validate({"epochs": 1, **on_task.training})
        if method != "linear_probe":
            assert "learning_rate" in on_task.setting


def test_values_on_a_task_are_laid_over_those_for_all():
    preset = find_preset("fourierft", "roberta-large", "glue/cola").on("glue/cola")
    assert preset.setting == {
        "n_frequency": 1000,
        "location_seed": 2024,
        "learning_rate": 0.043,
        "head_learning_rate": 0.011,
        "scaling": 120.0,
    }
    assert preset.training == {"warmup_ratio": 0.06, "epochs": 80, "max_length": 256, "batch_size": 128}


def test_both_image_models_share_values_that_the_table_gives_once():
    base, large = (find_preset("fourierft", model, "vision/eurosat") for model in ("vit-base", "vit-large"))
    assert base.on("vision/eurosat") == large.on("vision/eurosat")


def test_of_several_presets_the_first_is_found():
    assert find_preset("dora", "llama3-8b", "commonsense").setting["r"] == 32


def test_there_is_none_for_what_was_not_published():
    assert find_preset("vera", "roberta-base", "glue/mnli") is None
    assert presets_of("linear_attention") == []
