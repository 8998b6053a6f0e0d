"""How the kit is used: settings, models, reports."""

import re

import pytest
import torch
from pydantic import PositiveInt
from transformers import BertConfig, BertForSequenceClassification

from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.base import Dimension, Method, Setting, SizeKnob
from parbench.methods.declaration import check_declaration
from parbench.methods.lora import Lora, LoraSetting
from parbench.methods.testing import (
    TINY_MODELS,
    Check,
    CheckOutcome,
    ConformanceError,
    ConformanceReport,
    TinyModel,
    check_method,
)


def test_a_setting_is_used_as_it_is():
    report = check_method(Lora(), LoraSetting(target_modules=("key",), r=3), model=TINY_MODELS["bert"])
    assert not report.failures
    refused = check_method(Lora(), LoraSetting(target_modules=("nowhere",)), model=TINY_MODELS["bert"])
    assert [failure.name for failure in refused.failures] == ["adapt"]
    assert 'target_modules has "nowhere"' in refused["adapt"].reason


def test_a_setting_without_defaults_has_to_be_given():
    class Demanding(Lora):
        setting_type = type("DemandingSetting", (LoraSetting,), {"__annotations__": {"r": PositiveInt}, "r": ...})

    with pytest.raises(ValueError, match='the setting of the method "lora" has no default for r; give one'):
        check_method(Demanding())
    assert isinstance(Demanding.setting_type(r=2), Setting)


class Nameless(Lora):
    name = None


class WithoutReference(Lora):
    reference = "a paper"


class WithAnotherKnob(Lora):
    size_knob = SizeKnob("rank")


class WithAnotherSpace(Lora):
    search_space = (Dimension("learnig_rate", 1e-4, 1e-2),)


class WithAnEmptyRange(Lora):
    search_space = (Dimension("learning_rate", 1e-2, 1e-2),)


class WithoutSetting(Method):
    name, reference = "bare", Lora.reference

    def config(self, names, setting):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (Lora, r"Lora is a class; register an instance of it, Lora\(\)"),
        (object(), "an object of type object is not a method"),
        (Nameless(), "the name of the method Nameless is None"),
        (WithoutReference(), 'the reference of the method "lora" is .a paper.; give a Reference'),
        (WithAnotherKnob(), 'the size knob of the method "lora" is "rank", which is not one of its options'),
        (WithAnotherSpace(), 'has "learnig_rate", which is not one of its options; did you mean "learning_rate"'),
        (WithAnEmptyRange(), "from 0.01 to 0.01; give 0 < low < high"),
        (WithoutSetting(), 'the method WithoutSetting has no "setting_type"; set it in the class'),
    ],
)
def test_a_faulty_declaration_is_one_sentence(method, sentence):
    report = check_method(method)
    assert [failure.name for failure in report.failures] == ["declaration"]
    assert re.search(sentence, report["declaration"].reason)
    with pytest.raises(UserError, match=sentence):
        check_declaration(method)


def test_a_method_with_a_faulty_declaration_is_not_planned(monkeypatch):
    monkeypatch.setattr("parbench.methods.lora.LORA", WithAnotherSpace())
    with pytest.raises(UserError, match="learnig_rate"):
        find_method("lora")


def test_a_size_is_found_for_a_model_that_is_too_small_for_the_default():
    class OfFewRanks(Lora):
        def adapt(self, model, names, setting):
            if setting.r > 2:
                raise ValueError("at most 2")
            return super().adapt(model, names, setting)

    report = check_method(OfFewRanks(), model=TINY_MODELS["bert"])
    assert not report.failures
    assert report["size"].outcome is CheckOutcome.PASSED


def test_blocks_that_are_wider_than_the_tiny_models_are_checked_on_wider_ones():
    class OfWideBlocks(Lora):
        def adapt(self, model, names, setting):
            if model.config.hidden_size % 256:
                raise ValueError("blocks of 256")
            return super().adapt(model, names, setting)

    report = check_method(OfWideBlocks())
    assert report.model == "bert"
    assert not report.failures
    assert report["vit"].outcome is CheckOutcome.PASSED


def test_a_model_of_ones_own():
    def make():
        return BertForSequenceClassification(
            BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
        )

    mine = TinyModel("mine", "a model of my own", make)
    report = check_method(Lora(), model=mine)
    assert report.model == "mine"
    assert not report.failures
    assert {check.name for check in report.checks}.isdisjoint(TINY_MODELS)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_tiny_models_are_the_same_at_every_call_and_have_biases(name):
    tiny = TINY_MODELS[name]
    first, second = tiny.build(), tiny.build()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(parameter.count_nonzero() for parameter in first.parameters() if parameter.ndim == 1)
    next(first.parameters()).data.zero_()
    assert next(tiny.build().parameters()).count_nonzero()
    for a, b in zip(tiny.rows(2), tiny.rows(2), strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_report():
    broken = ZeroDivisionError("what was raised")
    report = ConformanceReport(
        "mine",
        "bert",
        (
            Check("start", CheckOutcome.PASSED),
            Check("merge", CheckOutcome.NOT_APPLICABLE, "nothing to merge"),
            Check("save", CheckOutcome.FAILED, "the file is empty", broken),
            Check("size", CheckOutcome.FAILED, "it does not grow"),
        ),
    )
    assert [check.name for check in report.failures] == ["save", "size"]
    assert report["merge"].reason == "nothing to merge"
    with pytest.raises(KeyError, match="disable"):
        report["disable"]
    assert str(report).splitlines() == [
        '"mine" on bert',
        "start        passed",
        "merge        not applicable nothing to merge",
        "save         failed         the file is empty",
        "size         failed         it does not grow",
    ]
    with pytest.raises(ConformanceError) as raised:
        report.raise_for_failures()
    assert str(raised.value).splitlines() == [
        'the method "mine" does not keep its contract on bert:',
        "  save: the file is empty",
        "  size: it does not grow",
    ]
    assert raised.value.__cause__ is broken
    ConformanceReport("mine", "bert", report.checks[:2]).raise_for_failures()
