"""Methods with one fault each, which shows before anything is trained."""

import torch

from parbench.methods.base import ParameterGroup
from parbench.methods.lora import Lora
from tests.support.faults import Cases, lora_layers, registrar

CASES: Cases = {}
caught = registrar(CASES)


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
