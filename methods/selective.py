"""Methods that train parameters the base model already has: full fine-tuning, BitFit and the linear probe.

peft does not have them. Modules are not wrapped: `adapt` freezes the model and unfreezes the selected parameters, so
the result is still the transformers model, a `Trainer` checkpoint is a plain model, and inference costs the same as
with the base model. There is no adapter to merge (``mergeable`` is false).
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import Field, PositiveFloat

from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Names, S, Setting
from parbench.methods.selection import Selection, layer_index
from parbench.methods.targets import located

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from parbench.methods.architecture import ModuleNames

TRAINED_FILE = "trained.safetensors"


class FullSetting(Setting):
    """Hyper-parameters of full fine-tuning; the default is from the BitFit authors' example for BERT-base on RTE."""

    learning_rate: PositiveFloat = Field(default=1e-5, description="peak learning rate of the base model")
    head_learning_rate: PositiveFloat = 1e-5
    target_modules: Names | None = Field(
        default=None, description="last parts of the names of modules to train, weights and biases; default: all"
    )


class BitFitSetting(Setting):
    """Hyper-parameters of BitFit; the default is the authors' for BERT-base on RTE (README of their code)."""

    learning_rate: PositiveFloat = Field(default=1e-3, description="peak learning rate of the bias terms")
    head_learning_rate: PositiveFloat = 1e-3
    target_modules: Names | None = Field(
        default=None, description="last parts of the names of modules whose biases are trained; default: all"
    )


class LinearProbeSetting(Setting):
    """Hyper-parameters of the linear probe; the default is not tuned."""

    learning_rate: PositiveFloat = Field(default=1e-3, description="no effect: only the head is trained")
    head_learning_rate: PositiveFloat = 1e-3
    target_modules: None = Field(default=None, description="not available: only the head is trained")
    layers: None = Field(default=None, description="not available: only the head is trained")


class SelectiveMethod(Method[S]):
    """Trains some of the base model's own parameters, and the task head.

    Attributes:
        lacking: why a model may have nothing to train, as the end of an error message.
    """

    mergeable = False
    lacking: str

    @abstractmethod
    def selects(self, parameter_name: str) -> bool:
        """Return whether a parameter outside the task head is trained when no target modules are given."""

    def config(self, names: ModuleNames, setting: S) -> NoReturn:
        """Raise: there is not a peft configuration.

        Raises:
            TypeError: always; use `adapt`.
        """
        raise TypeError(
            f'"{self.name}" has no peft configuration: it trains parameters of the model itself; use adapt()'
        )

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: S) -> nn.Module:
        """Freeze ``model`` except for the selected parameters and the task head; return it, not wrapped.

        Raises:
            UserError: a module or layer of ``setting`` has nothing that is trained.
            ValueError: the model has none of the parameters that the method trains.
        """
        if setting.larger_layers:
            raise ValueError(f'"{self.name}" has no size that could be larger on some layers; leave larger_layers out')
        setting = located(setting, model, names)
        selection = Selection.of_setting(setting)
        selection.check_names(model)
        model.requires_grad_(False)
        selected: list[str] = []
        for name, parameter in model.named_parameters():
            in_head = names.in_head(name)
            chosen = self.selects(name) and _within(name, setting)
            parameter.requires_grad_(in_head or chosen)
            selected += [name] if chosen and not in_head else []
        if not selected and not self._head_is_enough(names):
            raise ValueError(f'"{self.name}" finds nothing to train in this {model.config.model_type}: {self.lacking}')
        selection.check_adapted({path for name in selected for path in _owners(name)}, names.head)
        return model

    def _head_is_enough(self, names: ModuleNames) -> bool:
        return False

    def adapter_state(self, model: nn.Module, names: ModuleNames) -> dict[str, torch.Tensor]:
        """Return the trained tensors outside the task head."""
        return {name: tensor for name, tensor in _trained(model).items() if not names.in_head(name)}

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the trained tensors, head included, as ``trained.safetensors``, which `load_trained` reads."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(_trained(model), folder / TRAINED_FILE, metadata={"format": "pt"})


class Full(SelectiveMethod[FullSetting]):
    """Full fine-tuning: all parameters are trained, or all of ``target_modules``. The size is fixed."""

    name = "full"
    reference = Reference("Universal Language Model Fine-tuning for Text Classification", 2018, "ACL", "1801.06146")
    setting_type = FullSetting
    search_space = (Dimension("learning_rate", 3e-6, 1e-3),)
    lacking = "no parameter belongs to the given target_modules and layers"

    def selects(self, parameter_name: str) -> bool:
        """Return true: all parameters are trained."""
        return True


class BitFit(SelectiveMethod[BitFitSetting]):
    """BitFit: the bias terms are trained, including those of layer norms. The size is fixed."""

    name = "bitfit"
    reference = Reference(
        "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
        2022,
        "ACL",
        "2106.10199",
    )
    setting_type = BitFitSetting
    search_space = (Dimension("learning_rate", 1e-4, 1e-2),)
    lacking = "none of its modules has a bias"

    def selects(self, parameter_name: str) -> bool:
        """Return whether it is a bias term."""
        return parameter_name.rpartition(".")[2] == "bias"


class LinearProbe(SelectiveMethod[LinearProbeSetting]):
    """Only the task head is trained: the lower bound of comparisons. The reported size is 0."""

    name = "linear_probe"
    reference = Reference(
        "Understanding intermediate layers using linear classifier probes", 2016, "arXiv", "1610.01644"
    )
    setting_type = LinearProbeSetting
    search_space = (Dimension("head_learning_rate", 1e-4, 1e-1),)
    lacking = "it has no task head"

    def selects(self, parameter_name: str) -> bool:
        """Return false: nothing outside the head is trained."""
        return False

    def _head_is_enough(self, names: ModuleNames) -> bool:
        return bool(names.head)


def load_trained(model: nn.Module, folder: Path) -> None:
    """Load what `SelectiveMethod.save` wrote into a base model, in place.

    Raises:
        ValueError: the file is from another model.
    """
    import torch
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    trained = load_file(folder / TRAINED_FILE)
    for name, tensor in trained.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise ValueError(
                f'{folder / TRAINED_FILE} does not fit this model, which has no "{name}" of shape '
                f"{tuple(tensor.shape)}; load the base model that it was trained on"
            )
    with torch.no_grad():
        for name, tensor in trained.items():
            parameters[name].copy_(tensor)


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def _within(parameter_name: str, setting: Setting) -> bool:
    """Return whether a parameter is in the setting's target modules and layers."""
    modules, layers = setting.target_modules, setting.layers
    return (modules is None or any(f".{module}." in f".{parameter_name}" for module in modules)) and (
        layers is None or layer_index(parameter_name) in layers
    )


def _owners(parameter_name: str) -> list[str]:
    """Return the names of all modules that a parameter is in."""
    parts = parameter_name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


FULL = Full()
BITFIT = BitFit()
LINEAR_PROBE = LinearProbe()
