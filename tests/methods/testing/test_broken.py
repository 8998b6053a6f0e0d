"""Methods with one fault each: exactly the check that is there for it finds it, and names it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from peft import get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from parbench.methods.base import ParameterGroup
from parbench.methods.lora import Lora
from parbench.methods.testing import TINY_MODELS, ConformanceError, Outcome, check_method

BERT = TINY_MODELS["bert"]
CASES: dict[str, tuple[Callable[[], Lora], str, str]] = {}


def caught(check: str, sentence: str):
    """Register a broken method with the check that must find it and a part of the expected reason."""

    def register(broken: type[Lora]) -> type[Lora]:
        CASES[broken.__name__] = (broken, check, sentence)
        return broken

    return register


def lora_layers(model):
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@dataclass
class Doing(TrainerCallback):
    """Does something to the model after every optimiser step; ``steps`` counts those of this process."""

    change: Callable
    steps: int = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        with torch.no_grad():
            self.change(kwargs["model"], self.steps)


@caught("adapt", "the method can be applied to no tiny model (bert: it takes no such layers)")
class RefusesEverything(Lora):
    def adapt(self, model, names, setting):
        raise ValueError("it takes no such layers")


@caught("adapt", "the adapted model's logits have the shape (4, 1), not (4, 3)")
class ChangesTheOutputs(Lora):
    def adapt(self, model, names, setting):
        def first_only(module, inputs, output):
            output.logits = output.logits[:, :1]

        adapted = super().adapt(model, names, setting)
        adapted.register_forward_hook(first_only)
        return adapted


@caught("start", "the untrained adapter changes the outputs by 1.4 (allowed 1e-05 relative): make it start")
class StartsElsewhere(Lora):
    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        for layer in lora_layers(adapted):
            torch.nn.init.normal_(layer.lora_B["default"].weight)
        return adapted


@caught("start", "starts_at_base = False is declared, but the untrained adapter changes the outputs by 0 only")
class DeclaresAnotherStart(Lora):
    starts_at_base = False


@caught("groups", "query.lora_A.default.weight is trainable, but in no parameter group")
class ForgetsAParameter(Lora):
    def parameter_groups(self, model, names, setting):
        adapter, head = super().parameter_groups(model, names, setting)
        return [ParameterGroup("adapter", adapter.parameters[1:], 1e-3), head]


@caught("groups", "in two parameter groups")
class HasAParameterTwice(Lora):
    def parameter_groups(self, model, names, setting):
        adapter, head = super().parameter_groups(model, names, setting)
        return [adapter, ParameterGroup("fast", adapter.parameters[:1], 1e-2), head]


@caught("groups", "in a parameter group, but frozen")
class OptimisesWhatIsFrozen(Lora):
    def parameter_groups(self, model, names, setting):
        frozen = next(p for p in model.parameters() if not p.requires_grad)
        return [*super().parameter_groups(model, names, setting), ParameterGroup("frozen", [frozen], 1e-3)]


@caught("groups", 'either of the task head and outside the group "head", or inside it and not of the head')
class CountsTheHead(Lora):
    def parameter_groups(self, model, names, setting):
        adapter, head = super().parameter_groups(model, names, setting)
        (bias,) = (p for p in head.parameters if p.ndim == 1)
        (weight,) = (p for p in head.parameters if p.ndim == 2)
        return [
            ParameterGroup("adapter", [*adapter.parameters, bias], 1e-3),
            ParameterGroup("head", [weight], 1e-3),
        ]


@caught("groups", 'the task head (classifier) is in no group "head"')
class LeavesTheHeadUntrained(Lora):
    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        for name, parameter in adapted.named_parameters():
            if names.in_head(name):
                parameter.requires_grad_(False)
        return adapted


@caught("count", "reported_parameters is 8192, but only 4096 numbers are optimised besides the task head")
class ReportsTooMuch(Lora):
    def reported_parameters(self, model, names):
        return 2 * super().reported_parameters(model, names)


@caught(
    "count", "reported_parameters is 2048, but 4096 numbers are stored, and it is not a sum of parameter groups either"
)
class ReportsTooLittle(Lora):
    def reported_parameters(self, model, names):
        return super().reported_parameters(model, names) // 2


@caught("count", "reported_parameters is 0, but 4096 numbers are optimised")
class ReportsNothing(Lora):
    def reported_parameters(self, model, names):
        return 0


@caught("size", "reported_parameters stays 4096 as r goes from 1 to 4: it is not a size knob")
class IgnoresItsSize(Lora):
    def config(self, names, setting):
        return super().config(names, setting.model_copy(update={"r": 8}))


@caught("size", "reported_parameters falls from 16384 to 8192 as r goes from 1 to 2")
class ShrinksWithItsSize(Lora):
    def config(self, names, setting):
        return super().config(names, setting.model_copy(update={"r": max(1, 32 // setting.r)}))


@caught("skeleton", "reported_parameters is 512 on the meta device, but 4096 on a device with weights")
class CountsByTheWeights(Lora):
    def config(self, names, setting):
        has_weights = torch.empty(()).device.type != "meta"
        return super().config(names, setting if has_weights else setting.model_copy(update={"r": 1}))


@caught("gradients", "the parameter base_model.model.unused is without a gradient in the first 3 steps")
class TrainsSomethingUnused(Lora):
    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        adapted.base_model.model.unused = torch.nn.Parameter(torch.ones(3))
        return adapted


@caught("training", "of the base model and trained, but not in adapter_state")
class UnfreezesABaseWeight(Lora):
    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        lora_layers(adapted)[0].get_base_layer().weight.requires_grad_(True)
        return adapted


@caught(
    "training", "the tensor base_model.model.bert.embeddings.word_embeddings.weight is in no parameter group, but moved"
)
class MovesABaseWeight(Lora):
    def callbacks(self, setting):
        return [Doing(lambda model, step: model.get_input_embeddings().weight.add_(1e-3))]


@caught("training", "outputs are not finite after 6 steps")
class Explodes(Lora):
    def callbacks(self, setting):
        return [Doing(lambda model, step: lora_layers(model)[0].lora_B["default"].weight.mul_(torch.inf))]


@caught("determinism", "the same seed starts with other values in 4 of")
class StartsAnywhere(Lora):
    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
        for layer in lora_layers(adapted):
            torch.nn.init.normal_(layer.lora_A["default"].weight, generator=generator)
        return adapted


@caught("resume", "6 steps that were resumed after 3 end with other values than uninterrupted ones in")
class CountsItsOwnSteps(Lora):
    def callbacks(self, setting):
        def reset_once(model, step):
            if step == 5:
                lora_layers(model)[0].lora_B["default"].weight.zero_()

        return [Doing(reset_once)]


class TwiceMerged(LoraLinear):
    def get_delta_weight(self, adapter):
        return 2 * super().get_delta_weight(adapter)


class NeverUnmerged(LoraLinear):
    def unmerge(self):
        self.merged_adapters.clear()


class OfOtherLayers(Lora):
    """LoRA, but with another class of layers."""

    layer_type: type[LoraLinear]

    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        for layer in lora_layers(adapted):
            layer.__class__ = self.layer_type
        return adapted


@caught("merge", "(allowed 1e-04 relative): get_delta_weight or merge disagrees with forward")
class MergesTwiceAsMuch(OfOtherLayers):
    layer_type = TwiceMerged


@caught("merge", "merging and unmerging changes the outputs by 0.")
class CannotUnmerge(OfOtherLayers):
    layer_type = NeverUnmerged


@caught("merge", "mergeable = False is declared, but merging keeps the outputs")
class DeclaresNoMerging(Lora):
    mergeable = False


@caught("merge", "the adapted model has no merge_and_unload")
class WrapsWithoutPeft(Lora):
    """Its model is a plain one with a hook; the fault is the declaration that it can be merged."""

    size_knob = None

    def adapt(self, model, names, setting):
        if setting.target_modules or setting.layers:
            raise ValueError("only the embeddings are scaled")
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
        model.scale = torch.nn.Parameter(torch.ones(model.config.hidden_size))
        model.bert.embeddings.register_forward_hook(
            lambda module, inputs, output: output * model.scale.to(output.dtype)
        )
        return model

    def adapter_state(self, model, names):
        return {"scale": model.scale.detach().clone()}

    def save(self, model, folder):
        folder.mkdir()
        trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
        save_file(trained, folder / "trained.safetensors")


@caught("save", "the file and adapter_state differ in 1 of 8 tensors")
class LosesATensor(Lora):
    def save(self, model, folder):
        super().save(model, folder)
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        del tensors[next(name for name in tensors if "lora_A" in name)]
        save_file(tensors, file)


@caught("save", "something that was trained or drawn is not in the file")
class DrawsWhatItDoesNotSave(Lora):
    mergeable = False

    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        for layer in lora_layers(adapted):
            scale = torch.rand(layer.out_features)
            layer.lora_B["default"].register_forward_hook(lambda module, inputs, output, scale=scale: output * scale)
        return adapted


@caught("save", "save writes adapter_model.bin, which loads by unpickling; write safetensors")
class Pickles(Lora):
    def save(self, model, folder):
        super().save(model, folder)
        torch.save({}, folder / "adapter_model.bin")


@caught("save", "Some tensors share memory")
class SharesTensors(Lora):
    def adapter_state(self, model, names):
        state = super().adapter_state(model, names)
        first, *others = state
        return state | {other: state[first] for other in others if state[other].shape == state[first].shape}


@caught("disable", "with the adapter disabled, the outputs differ from the base model's by 0.")
class MovesItsStartIntoTheWeights(Lora):
    def config(self, names, setting):
        config = super().config(names, setting)
        config.init_lora_weights = "pissa"
        return config


@caught("bfloat16", "outputs are not finite after one step on a base model in bfloat16")
class OverflowsInBfloat16(Lora):
    def adapt(self, model, names, setting):
        adapted = super().adapt(model, names, setting)
        if model.dtype == torch.bfloat16:
            lora_layers(adapted)[0].scaling["default"] = torch.inf
        return adapted


@caught("rates", "learning_rate is in the search space, but no parameter group follows setting.learning_rate")
class IgnoresTheLearningRate(Lora):
    def parameter_groups(self, model, names, setting):
        return [replace(group, learning_rate=1e-3) for group in super().parameter_groups(model, names, setting)]


@caught("selection", "target_modules=['query', 'value', 'no_such_module'] is accepted, although no_such_module")
class DropsWhatItDoesNotFind(Lora):
    def adapt(self, model, names, setting):
        present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        targets = tuple(name for name in setting.target_modules or () if name in present) or None
        return super().adapt(model, names, setting.model_copy(update={"target_modules": targets}))


class CoarseLinear(LoraLinear):
    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        for factor in self.lora_B.values():
            if factor.weight.dtype == torch.bfloat16:
                factor.weight.data.mul_(16).round_().div_(16)
        return self


class RecomputedLinear(LoraLinear):
    def forward(self, x, *args, **kwargs):
        is_backward = torch._C._current_graph_task_id() >= 0
        return super().forward(2 * x if is_backward else x, *args, **kwargs)


def with_layers_of(kind):
    class OfAnotherClass(Lora):
        def adapt(self, model, names, setting):
            adapted = super().adapt(model, names, setting)
            for layer in lora_layers(adapted):
                layer.__class__ = kind
            return adapted

    return OfAnotherClass


@caught("cast", "a cast of the model to bfloat16 and back changes the outputs by")
class IsDestroyedByACast(with_layers_of(CoarseLinear)):
    pass


@caught("recompute", "with gradient checkpointing, the gradient of")
class ComputesSomethingElseAgain(with_layers_of(RecomputedLinear)):
    pass


class Prunes(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            kwargs["model"].peft_config["default"].pruned = True
            PrunesAtTheEnd.prune(kwargs["model"])


@caught("epoch", "an epoch after 0% of the steps, saved when training has ended, changes the outputs by")
class PrunesAtTheEnd(Lora):
    @staticmethod
    @torch.no_grad()
    def prune(model):
        if getattr(model.peft_config["default"], "pruned", False):
            for layer in lora_layers(model):
                for factor in layer.lora_B.values():
                    factor.weight[:, 0] = 0

    def callbacks(self, setting):
        return [Prunes()]

    def save(self, model, folder):
        self.prune(model)
        super().save(model, folder)


@caught(
    "vocabulary", "the tensor base_model.model.lm_head.base_layer.weight is in the file, but of the frozen base model"
)
class KeepsTheVocabulary(Lora):
    def adapter_state(self, model, names):
        return {name: t for name, t in get_peft_model_state_dict(model).items() if not names.in_head(name)}

    def save(self, model, folder):
        model.save_pretrained(str(folder))


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
    assert report["merge"].outcome is Outcome.NOT_APPLICABLE
    assert report["merge"].reason == "not done, since training did not pass"
