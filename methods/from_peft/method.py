"""Any tuner of the installed peft as a method, with peft's own options and defaults."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftConfig, PeftModel, PeftType, PromptLearningConfig, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
from pydantic import Field, PositiveFloat, create_model
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionLayer

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, adapter_parameters, head_parameters, warn_of_excess
from parbench.methods.from_peft.known import KnownTuner
from parbench.methods.quantisation import weight_shape
from parbench.methods.selection import Selection, adapted_modules, matches
from parbench.methods.targets import located

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, TrainerCallback

    from parbench.methods.architecture import ModuleNames

LEARNING_RATE = 1e-3

# The citation that peft asks for; used where a paper is not known.
PEFT = Reference("PEFT: State-of-the-art Parameter-Efficient Fine-Tuning methods", 2022, "software")

# Set by the model or by `Method.adapt`.
_NOT_OPTIONS = {
    *(field.name for field in dataclasses.fields(PeftConfig)),
    "modules_to_save",
    "target_modules",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
    "token_dim",
    "num_transformer_submodules",
    "num_attention_heads",
    "num_layers",
}


class PeftMethod(Method[Setting]):
    """A tuner of peft, by the name of its `PeftType`.

    The setting has the fields and defaults of peft's configuration class; the learning rates are not published.
    The reported size is the number of trained parameters.

    Args:
        name: member of `PeftType`, in lower case.
        known: facts that the configuration class does not have.
    """

    def __init__(self, name: str, known: KnownTuner) -> None:
        self.name = name
        self.reference = known.reference or PEFT
        self.size_knob = known.knob
        self.starts_at_base = known.starts_at_base
        self.mergeable = known.mergeable
        self.allows_checkpointing = known.checkpointing
        self._known = known
        self._config_type: type[Any] = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name.upper())]
        rate = known.learning_rate or LEARNING_RATE
        self.setting_type = _setting_type(name, self._config_type, rate, known.defaults)
        self.search_space = (Dimension("learning_rate", rate / 10, rate * 10),)

    @property
    def refused(self) -> str | None:
        """Why the method cannot be compared here; ``None`` if it can."""
        return self._known.refused

    def config(self, names: ModuleNames, setting: Setting) -> PeftConfig:
        """Return peft's configuration; targets that depend on more than ``names`` are set by `adapt`.

        Raises:
            UserError: the method cannot be compared here.
        """
        if self.refused:
            raise UserError(f'the method "{self.name}" cannot be used here: {self.refused}')
        options = {
            name: getattr(setting, name) for name in type(setting).model_fields if name not in Setting.model_fields
        }
        default = {"query_value": names.query_value, "value": (names.value,)}.get(self._known.targets)
        if setting.target_modules and self._known.targets == "none":
            raise UserError(f'the method "{self.name}" adapts no modules; leave target_modules out')
        if targets := setting.target_modules or default:
            options["target_modules"] = list(targets)
        return self._config_type(**options)

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: Setting) -> nn.Module:
        """Wrap ``model`` (changed in place) so that only adapter and head are trainable.

        Raises:
            UserError: the method cannot be used here at all, or not with this architecture; a module, layer or pattern
                of ``setting`` matches nothing; or the method computes with the weights and the model has none, being on
                the meta device.
        """
        setting = located(setting, model, names)
        selection = Selection.of_setting(setting)
        try:
            config = self.config(names, setting)
            config.modules_to_save = list(names.head) or None  # type: ignore[attr-defined]
            _place(config, setting)
            selection.check_names(model)
            PREPARATIONS.get(self.name, _nothing)(model, config, names)
            adapted = get_peft_model(model, config)
            _check_trainable(adapted, names)
            selection.check_adapted(adapted_modules(adapted), names.head)
            warn_of_excess(self, setting, adapted)
        except (ValueError, TypeError, AttributeError, RuntimeError) as error:
            refusal = self._refusal(model, error)
            if refusal is None:
                raise
            raise refusal from error
        if isinstance(config, PromptLearningConfig):
            adapted.register_forward_hook(_without_prompt, with_kwargs=True)
        return adapted

    def _refusal(self, model: PreTrainedModel, error: Exception) -> UserError | None:
        """Return a one-sentence error for what peft raises when it cannot adapt a model, ``None`` for other errors."""
        reason = " ".join(str(error).split())
        # Errors about the meta device are RuntimeErrors, and so are those about memory.
        if isinstance(error, RuntimeError) and model.device.type == "meta":
            return UserError(f'the method "{self.name}" cannot be put on the meta device: {reason}')
        if isinstance(error, UserError) or (
            isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError)
        ):
            return None
        return UserError(f'the method "{self.name}" cannot adapt a {model.config.model_type}: {reason}')

    def adapter_state(self, model: nn.Module, names: ModuleNames) -> dict[str, Tensor]:
        """Return the tensors of the adapter file, without those of the task head; shared tensors are copied."""
        return {name: tensor.clone() for name, tensor in super().adapter_state(model, names).items()}

    def virtual_tokens(self, setting: Setting) -> int:
        """Return the length of the prompt or prefix, where the tuner has one."""
        return int(getattr(setting, "num_virtual_tokens", None) or 0)

    def callbacks(self, setting: Setting) -> list[TrainerCallback]:
        """Return the callback that saves a prompt's encoder; an empty list for other tuners."""
        if not issubclass(self._config_type, PromptLearningConfig):
            return []
        from parbench.methods.prompt_encoder import PromptEncoderCheckpoint

        return [PromptEncoderCheckpoint()]

    def with_size(self, setting: Setting, size: int) -> Setting:
        """Return ``setting`` with another value of the size knob; if that is a rank, alpha / rank stays the same."""
        changed = super().with_size(setting, size)
        if self.size_knob is None or self.size_knob.field != "r":
            return changed
        scale = size / setting.r  # type: ignore[attr-defined]
        alphas = {name: value for name, value in setting if name.rpartition("_")[2] == "alpha" and value is not None}
        return changed.model_copy(update={name: _whole(value * scale) for name, value in alphas.items()})


Preparation = Callable[["PreTrainedModel", Any, "ModuleNames"], None]


def _nothing(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    """Most tuners need their configuration only."""


def _prepare_prompt(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    if model.main_input_name != "input_ids":
        raise ValueError(f"a prompt goes before text, but the model's input is {model.main_input_name}")
    # Prompts are passed as embeddings, in which the head cannot recognise padding: it would classify from a padding
    # token. A prefix does not change the input.
    if "score" in names.head and config.peft_type != PeftType.PREFIX_TUNING:
        raise ValueError("its classification head looks for the last word, and cannot find it behind a prompt")
    if config.peft_type == PeftType.PREFIX_TUNING:
        forwards = (type(module).forward for module in (model, model.base_model))
        if not any("past_key_values" in inspect.signature(forward).parameters for forward in forwards):
            raise ValueError("a prefix is made of past keys and values, which the model does not take")
        if names.latent:
            raise ValueError("a prefix is made of past keys and values, which the model keeps compressed")
        if any(isinstance(layer, LinearAttentionLayer) for layer in DynamicCache(config=model.config).layers):
            raise ValueError("a prefix is made of past keys and values, and layers of the model have a state instead")
    config.task_type = TaskType.CAUSAL_LM if model.can_generate() else TaskType.SEQ_CLS


def _prepare_ia3(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    """Restrict peft's feed-forward modules to targets: peft saves the others, too, and then refuses to load."""
    if config.target_modules is not None and config.feedforward_modules is None:
        known = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(model.config.model_type, [])
        adapted = {name for name in known if any(matches(target, [name]) for target in config.target_modules)}
        config.feedforward_modules = adapted
        # They are targets already, by shorter names; peft wants a subset by name.
        config.target_modules = {*config.target_modules, *adapted}


def _refuse_latent(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    if names.latent and names.value in config.target_modules:
        raise ValueError(
            f"its layers take inputs of three dimensions, and {names.value} gets four: name other target_modules"
        )


def _prepare_oft(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    """Refuse a size that peft would replace by another one: blocks, or their number, that do not divide the inputs."""
    _refuse_latent(model, config, names)
    for option in ("oft_block_size", "r"):
        value = getattr(config, option)
        if not value or value == type(config).__dataclass_fields__[option].default:
            continue
        for module in _targets(model, config):
            width = getattr(module, "in_features", 0)
            if width % value:
                raise ValueError(f"{option}={value} does not divide the {width} inputs of a weight; give a divisor")


def _prepare_norms(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    """Target all layer norms, which peft lists for few architectures only."""
    if config.target_modules is None:
        kinds = {name.rpartition(".")[2]: type(module).__name__ for name, module in model.named_modules()}
        config.target_modules = {name for name, kind in kinds.items() if kind.endswith("Norm")}


def _prepare_adaption_prompt(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    if config.adapter_layers is None:
        config.adapter_layers = model.config.num_hidden_layers


def _prepare_adamss(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    if config.use_asa:
        raise ValueError("use_asa keeps scores that no checkpoint holds, so a run could not be resumed; leave it off")


def _prepare_beft(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    """Give targets without a bias a bias of zeros, into which the trained one can be merged."""
    for module in _targets(model, config):
        if isinstance(module, nn.Linear) and module.bias is None:
            dtype = module.weight.dtype if module.weight.is_floating_point() else torch.float32
            zeros = torch.zeros(module.out_features, dtype=dtype, device=module.weight.device)
            module.bias = nn.Parameter(zeros, requires_grad=False)


def _prepare_randlora(model: PreTrainedModel, config: Any, names: ModuleNames) -> None:
    width = min((min(weight_shape(module)) for module in _targets(model, config)), default=config.r)
    if config.r > width:
        raise ValueError(f"bases of rank {config.r} are larger than the narrowest weight, of rank {width}")


def _targets(model: nn.Module, config: Any) -> list[Any]:
    """Return the modules that a configuration names by their last parts."""
    ends = tuple(f".{name}" for name in config.target_modules)
    return [module for name, module in model.named_modules() if f".{name}".endswith(ends)]


# Steps before a model is adapted, by tuner: further configuration, or a refusal that peft lacks.
PREPARATIONS: dict[str, Preparation] = {
    "adamss": _prepare_adamss,
    "adaption_prompt": _prepare_adaption_prompt,
    "beft": _prepare_beft,
    "gralora": _refuse_latent,
    "ia3": _prepare_ia3,
    "ln_tuning": _prepare_norms,
    "oft": _prepare_oft,
    "p_tuning": _prepare_prompt,
    "prefix_tuning": _prepare_prompt,
    "prompt_tuning": _prepare_prompt,
    "randlora": _prepare_randlora,
}


def _place(config: Any, setting: Setting) -> None:
    """Restrict the adapter to the layers of the setting."""
    if setting.layers is not None:
        if not hasattr(config, "layers_to_transform"):
            raise ValueError("it cannot be put on some layers only")
        config.layers_to_transform = list(setting.layers)
    if setting.larger_layers:
        raise ValueError("it has the same size on all layers; leave larger_layers out")


def _check_trainable(model: nn.Module, names: ModuleNames) -> None:
    """Raise a `ValueError` if adapter or head would not be trained."""
    if not any(parameter.numel() for parameter in adapter_parameters(model, names)):
        raise ValueError("peft adds nothing that is trained")
    if names.head and not any(parameter.numel() for parameter in head_parameters(model, names)):
        raise ValueError("peft leaves the new task head frozen")


def _without_prompt(model: PeftModel, arguments: tuple[Any, ...], named: dict[str, Any], outputs: Any) -> Any:
    """Drop the logits of the prompt's positions, so that logits align with labels."""
    ids = named.get("input_ids", arguments[0] if arguments else None)
    if ids is not None and outputs.logits.ndim == 3:
        outputs.logits = outputs.logits[:, -ids.shape[1] :]
    return outputs


def _whole(number: float) -> float:
    """Return an integer for an integral number: peft declares alphas as integers."""
    return int(number) if float(number).is_integer() else number


def _setting_type(name: str, config_type: type[Any], learning_rate: float, defaults: dict[str, Any]) -> type[Setting]:
    """Make a pydantic model of the options of a configuration class."""
    hints = typing.get_type_hints(config_type)
    fields: dict[str, Any] = {}
    for option in dataclasses.fields(config_type):
        if option.name in _NOT_OPTIONS:
            continue
        default = defaults.get(option.name, option.default)
        if option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        hint = hints[option.name]
        # peft declares required fields as `r: int = None`.
        fields[option.name] = (hint | NoneType if default is None else hint, default)
    rate = Field(default=learning_rate, description="untuned default, from no paper")
    return create_model(
        f"{config_type.__name__.removesuffix('Config')}Setting",
        __base__=Setting,
        __doc__=f"The options of peft's {config_type.__name__}; the learning rates are untuned.",
        learning_rate=(PositiveFloat, rate),
        head_learning_rate=(PositiveFloat, rate),
        **fields,
    )
