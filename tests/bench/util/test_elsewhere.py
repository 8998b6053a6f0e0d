"""What other libraries call a setting is understood, wherever the settings are given."""

import pytest

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.elsewhere import Elsewhere
from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import validated
from parbench.methods import METHODS, find_method
from parbench.methods.setting import Setting
from parbench.tasks import find_task
from parbench.tasks.options import TaskOptions

RATES = ": methods have learning rates of their own, as lora.learning_rate"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("per_device_train_batch_size", '; did you mean "batch_size"?'),
        ("per_device_eval_batch_size", '; did you mean "evaluation_batch_size"?'),
        ("num_train_epochs", '; did you mean "epochs"?'),
        ("gradient_accumulation_steps", '; did you mean "gradient_accumulation"?'),
        ("save_steps", '; did you mean "checkpoint_steps"?'),
        ("max_grad_norm", '; did you mean "max_gradient_norm"?'),
        ("fp16", ": give precision=bfloat16, the only one beside float32"),
        ("bf16", ": give precision=bfloat16, the only one beside float32"),
        ("lr", RATES),
        ("learning_rate", RATES),
        ("logging_steps", ": the loss is logged some fifty times in each run, in its history.jsonl"),
        ("num_fewshot", ": it is an option of a task, as commonsense.num_fewshot"),
        ("max_step", '; did you mean "max_steps"?'),
    ],
)
def test_a_training_has_the_names_of_transformers(name, hint):
    with pytest.raises(UserError) as error:
        validated(TrainingSettings, {"max_steps": 3, name: 1}, "the training")
    assert str(error.value) == f'the training is wrong: there is no field "{name}"{hint}'


@pytest.mark.parametrize(
    ("method", "name", "hint"),
    [
        ("lora", "lora_alpha", '; did you mean "alpha"?'),
        ("lora", "lora_dropout", '; did you mean "dropout"?'),
        ("lora", "rank", '; did you mean "r"?'),
        ("lora", "lr", '; did you mean "learning_rate"?'),
        ("lora", "use_rslora", ": it is a modifier, as in the method lora+rslora"),
        ("lora", "use_dora", ": it is a method of its own, dora"),
        ("full", "lora_alpha", "; there is: "),
    ],
)
def test_a_method_has_the_names_of_peft_in_both_ways_to_give_them(method, name, hint):
    with pytest.raises(UserError) as error:
        validated(METHODS[method].setting_type, {name: 1}, "the setting")
    assert f'there is no field "{name}"{hint}' in str(error.value)
    with pytest.raises(UserError) as error:
        find_method(f"{method}({name}=1)")
    assert f'has no option "{name}"{hint}' in str(error.value)


def test_a_task_has_the_names_of_lm_eval():
    with pytest.raises(UserError, match=r"option of the commonsense tasks, as commonsense\.num_fewshot"):
        find_task("glue/sst2").configured({"num_fewshot": 5})


@pytest.mark.parametrize("model", [TrainingSettings, Setting, TaskOptions])
def test_no_field_is_explained_away(model):
    table: Elsewhere = model.elsewhere
    of_this_kind = {**model.model_fields, **({"r": 0} if model is Setting else {})}
    assert not {*table.renamed, *table.explained} & set(of_this_kind)
    if model is TrainingSettings:
        assert set(table.renamed.values()) <= set(model.model_fields)
