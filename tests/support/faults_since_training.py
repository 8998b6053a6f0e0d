"""Methods with one fault each, which shows in training, merging, saving or loading."""

import os
from dataclasses import replace

import torch
from peft import get_peft_model_state_dict
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from parbench.methods.lora import Lora
from tests.support.faults import Cases, Doing, lora_layers, registrar

CASES: Cases = {}
caught = registrar(CASES)


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
                linear = next(layer for layer in lora_layers(model) if "default" in layer.lora_B)  # no embedding
                linear.lora_B["default"].weight.zero_()

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


def double_on(layer_type, adapted):
    """Double the update of each layer over quantised weights of a type; peft does not when it loads the adapter."""
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer) and type(layer.get_base_layer()).__name__ == layer_type:
            layer.scaling["default"] *= 2
    return adapted


@caught("int8", "the adapter that is saved and loaded onto int8 weights changes the outputs by")
class DoublesOnInt8(Lora):
    def adapt(self, model, names, setting):
        return double_on("Int8Linear", super().adapt(model, names, setting))


@caught("nf4", "the adapter that is saved and loaded onto nf4 weights changes the outputs by")
class DoublesOnNf4(Lora):
    def adapt(self, model, names, setting):
        return double_on("Nf4Linear", super().adapt(model, names, setting))


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
