"""Methods with one fault each: exactly the check that is there for it finds it, and names it."""

import pytest

from parbench.methods.lora import Lora
from parbench.methods.testing import TINY_MODELS, CheckOutcome, ConformanceError, check_method
from tests.support.faults_before_training import CASES as BEFORE
from tests.support.faults_since_training import CASES as SINCE
from tests.support.faults_since_training import MovesABaseWeight

BERT = TINY_MODELS["bert"]
CASES = {**BEFORE, **SINCE}


@pytest.mark.parametrize("name", CASES)
def test_fault_is_found_by_its_check_alone(name):
    broken, check, sentence = CASES[name]
    report = check_method(broken(), model=BERT)
    assert [failure.name for failure in report.failures] == [check], f"\n{report}"
    assert sentence in report[check].reason
    with pytest.raises(ConformanceError, match=check):
        report.raise_for_failures()


def test_fault_on_another_kind_of_model_is_found():
    class FailsOnConv1D(Lora):
        def adapt(self, model, names, setting):
            if names.query == "c_attn" and model.config.hidden_size == 64:
                raise KeyError("query")
            return super().adapt(model, names, setting)

    report = check_method(FailsOnConv1D())
    assert [failure.name for failure in report.failures] == ["gpt2"]
    assert report["gpt2"].reason.startswith(
        "adapt: adapting raises KeyError ('query'); refuse a model that cannot be adapted"
    )


def test_every_check_has_a_fault_that_it_finds():
    report = check_method(Lora(), model=BERT)
    assert {check for _, check, _ in CASES.values()} == {check.name for check in report.checks}


def test_checks_that_would_blame_something_else_are_left_out():
    report = check_method(MovesABaseWeight(), model=BERT)
    assert report["merge"].outcome is CheckOutcome.NOT_APPLICABLE
    assert report["merge"].reason == "not done, since training did not pass"
