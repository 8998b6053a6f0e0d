"""Methods on tiny models with quantised weights."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from parbench.methods import METHODS, find_method
from parbench.methods.lora import Lora
from parbench.methods.probe import why_unsuited
from parbench.methods.quantisation import is_quantised
from parbench.methods.testing.check import make_subject, quiet_workspace
from parbench.methods.testing.findings import FaultError, NotApplicableError
from parbench.methods.testing.models import TINY_MODELS, WIDER_MODELS
from parbench.methods.testing.quantised import check_on
from parbench.methods.testing.subject import Subject

pytest.importorskip("bitsandbytes")

OURS = ("lora", "loca", "fourierft_fast", "replora", "dora", "vera", "bitfit")


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_methods_that_work_on_a_quantised_llama(name: str, precision: str) -> None:
    assert why_unsuited(find_method(name).method, precision, "llama", "bert") is None


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_full_fine_tuning_does_not(precision: str) -> None:
    reason = why_unsuited(find_method("full").method, precision, "llama", "bert")
    assert reason is not None
    assert reason.startswith(f"does not work on {precision} weights (only Tensors of floating point dtype can require")


# Of peft's tuners; the first may still be trained, the second is refused when runs are planned.
KNOWN_FAULTS = {"pvera": "with what cannot be dequantised", "unilora": "without a gradient"}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_that_works_on_a_4_bit_llama_computes_what_it_computes_in_float32(
    name: str, tmp_path: Path
) -> None:
    """A method that raises an error is refused when runs are planned; one that computes something else is a fault."""
    with quiet_workspace():
        subject = make_subject(METHODS[name], None, (TINY_MODELS["llama"], WIDER_MODELS["llama"]), tmp_path)
        if subject.obstacle is not None:
            pytest.skip(str(subject.obstacle))
        known = KNOWN_FAULTS.get(name)
        expected = pytest.raises(FaultError, match=known) if known else nullcontext()
        try:
            with expected:
                check_on("nf4", subject)
        except NotApplicableError as reason:
            pytest.skip(str(reason))


class _Scaled(Lora):
    """Multiplies by the packed weight, as a tuner that knows nothing of quantisation may."""

    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)

        def grow(module, inputs, output):
            return output * (1 + 1e-3 * module.base_layer.weight.float().abs().mean())

        for name, module in adapted.named_modules():
            if name.endswith(names.query):
                module.register_forward_hook(grow)
        return adapted


class _Frozen(Lora):
    """Puts its adapter where no gradient comes."""

    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        for module in adapted.modules():
            if hasattr(module, "lora_B") and "default" in module.lora_B:
                module.lora_B["default"].register_forward_hook(lambda module, inputs, output: output.detach())
        return adapted


@pytest.mark.parametrize(("method", "fault"), [(_Scaled(), "changes the outputs"), (_Frozen(), "without a gradient")])
def test_faults_are_found(method: Lora, fault: str, tmp_path: Path) -> None:
    subject = Subject(method, method.setting_type(), TINY_MODELS["bert"], tmp_path)
    with pytest.raises(FaultError, match=fault):
        check_on("nf4", subject)


class _Careless(Lora):
    """Merges something else into quantised weights than into others."""

    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        for module in adapted.modules():
            if hasattr(module, "lora_A") and is_quantised(module.get_base_layer()):
                module.get_delta_weight = lambda adapter, own=module: torch.ones(own.out_features, own.in_features)
        return adapted


def test_a_merge_that_loses_more_than_the_quantisation_step_is_found(tmp_path: Path) -> None:
    subject = Subject(_Careless(), Lora.setting_type(), TINY_MODELS["bert"], tmp_path)
    with pytest.raises(FaultError, match="what quantising it again may"):
        check_on("nf4", subject)
