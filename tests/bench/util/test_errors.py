"""What is offered in place of a name that is not known."""

import pytest

from parbench.bench.util.errors import did_you_mean

NAMES = ("lora", "loca", "road", "dora", "fourierft", "linear_probe", "MRPC")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("lorra", "lora"),
        ("lroa", "lora"),
        ("laco", "loca"),
        ("LoRA", "lora"),
        ("forierft", "fourierft"),
        ("mrcp", "MRPC"),
        ("linear_prob", "linear_probe"),
    ],
)
def test_the_nearest_name_is_offered(word, name):
    assert did_you_mean(word, NAMES) == f'; did you mean "{name}"?'


@pytest.mark.parametrize(
    ("word", "name"), [("lr", "learning_rate"), ("BS", "batch_size"), ("hlr", "head_learning_rate")]
)
def test_initials_are_understood(word, name):
    fields = ("r", "alpha", "learning_rate", "head_learning_rate", "batch_size", "bias")
    assert did_you_mean(word, fields) == f'; did you mean "{name}"?'


def test_all_names_that_begin_with_a_word_are_offered():
    kinds = ("image_text", "classification", "image_classification")
    assert did_you_mean("image", kinds) == '; did you mean "image_classification" or "image_text"?'


def test_a_tasks_name_is_enough_without_its_group():
    tasks = ("vision/cifar10", "vtab/cifar100", "vtab/dtd", "vision/dtd", "glue/sst2")
    assert did_you_mean("cifar10", tasks) == '; did you mean "vision/cifar10"?'
    assert did_you_mean("DTD", tasks) == '; did you mean "vision/dtd" or "vtab/dtd"?'


def test_else_all_names_are():
    assert did_you_mean("xyz", ("b", "a")) == "; there is: a, b"
    assert did_you_mean("xyz", ()) == "; there is none"
