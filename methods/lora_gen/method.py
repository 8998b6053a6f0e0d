"""LoRA-Gen as a registered method: its hyper-parameters, its size, and the files of a run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, cast

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, ParameterGroup, Setting, SizeKnob
from parbench.methods.lora_gen.config import (
    BalanceLayers,
    BalanceStd,
    LoraGenConfig,
    MetaEmbedding,
    Mixing,
    RouterNorm,
    Routing,
)

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from parbench.methods.architecture import ModuleNames
    from parbench.methods.lora_gen.adapted import AdaptedEdge

# Below the folder of an adapter: a peft adapter per evaluated system prompt, and the gates of the routers.
DELIVERED, GATES = "delivered", "gates.json"

_COMMIT = r"[0-9a-f]{40}"


class LoraGenSetting(Setting):
    """Hyper-parameters of LoRA-Gen; the defaults are the paper's (Table 10) or those in `parbench.methods.lora_gen`."""

    learning_rate: PositiveFloat = Field(
        default=2e-5, description="peak learning rate of experts, routers, meta tokens and the cloud's LoRA"
    )
    head_learning_rate: PositiveFloat = Field(
        default=2e-5, description="no effect: a language model keeps its own head"
    )
    target_modules: tuple[str, ...] | None = Field(
        default=None,
        description="adapted modules, named within a layer of the edge, such as mlp.up_proj; default: the "
        "feed-forward projections",
    )
    layers: None = Field(default=None, description="not available: every layer has a meta token")
    cloud: str | None = Field(
        default=None,
        description="model that reads the system prompts: a folder or hub id of a causal language model; default: the "
        "frozen weights of the edge model",
    )
    cloud_revision: str | None = Field(
        default=None, pattern=_COMMIT, description="commit of the cloud model, if it is on the hub"
    )
    cloud_precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the cloud's weights, if it is another model than the edge"
    )
    prompt_length: PositiveInt = Field(
        default=2048, description="most tokens of a system prompt; longer ones are cut at the beginning"
    )
    experts: PositiveInt = Field(default=8, description="n, the LoRA experts of each layer of the edge")
    top_k: PositiveInt = Field(default=2, description="K, the number of experts mixed into a LoRA")
    r: PositiveInt = Field(default=16, description="rank of an expert and of the generated LoRA: the size knob")
    alpha: PositiveFloat = Field(default=16.0, description="the update is scaled by alpha / r")
    dropout: NonNegativeFloat = Field(default=0.05, lt=1.0, description="dropout on the input of the edge's LoRA")
    routing: Routing = "keep_top_k"
    mixing: Mixing = "parameters"
    router_hidden: PositiveInt = 256
    router_norm: RouterNorm = "batch"
    direct_hidden: PositiveInt | None = None
    meta_embedding: MetaEmbedding = "shared"
    cloud_r: PositiveInt = Field(default=16, description="rank of the cloud's LoRA")
    cloud_alpha: PositiveInt = 16
    cloud_dropout: NonNegativeFloat = Field(default=0.05, lt=1.0)
    cloud_target_modules: tuple[str, ...] | None = None
    balance_coefficient: NonNegativeFloat = Field(default=0.01, description="alpha of equation 9")
    balance_std: BalanceStd = "biased"
    balance_layers: BalanceLayers = "mean"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.config()
        if self.cloud is None and self.cloud_revision is not None:
            raise ValueError("cloud_revision needs a cloud; give both or neither")
        return self

    def config(self) -> LoraGenConfig:
        """Return the options of the generator.

        Raises:
            ValueError: options contradict each other.
        """
        other: dict[str, Any] = {
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "projections": self.target_modules,
        }
        own: dict[str, Any] = {
            name: getattr(self, name) for name in LoraGenConfig.__dataclass_fields__ if name not in other
        }
        return LoraGenConfig(**own, **other)


class LoraGenMethod(Method[LoraGenSetting]):
    """A generator of LoRAs: a cloud model reads a system prompt, and experts are mixed into a LoRA for the edge model.

    The base model is the edge. The reported size, which budgets match, is that of the generated LoRA of rank r on the
    feed-forward projections: the paper compares it with a LoRA of the same rank and states no other size. The generator
    is optimised and stored: n experts of that size, the routers, the meta tokens and the cloud's LoRA. With
    ``mixing=products`` the generated LoRA is K times as large.
    """

    name = "lora_gen"
    reference = Reference(
        "LoRA-Gen: Specializing Large Language Model via Online LoRA Generation", 2025, "ICML", "2506.11638"
    )
    setting_type = LoraGenSetting
    size_knob = SizeKnob("r")
    search_space = (Dimension("learning_rate", 1e-5, 3e-3),)
    reads_system_prompt = True
    # The router normalises over the batch, and the balance loss sums over it.
    rows_are_independent = False
    # Experts that the router never chooses get no gradient.
    may_rest = ("pools.",)

    def config(self, names: ModuleNames, setting: LoraGenSetting) -> NoReturn:
        """Raise: there is not a peft configuration.

        Raises:
            TypeError: always; use `adapt`.
        """
        raise TypeError('"lora_gen" has no peft configuration: it is two models and a generator; use adapt()')

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: LoraGenSetting) -> AdaptedEdge:
        """Make ``model`` (changed in place) the edge of a `LoraGen`, and return both as one model.

        Raises:
            ValueError: it is not a causal language model, or the cloud model cannot be loaded or used.
        """
        from parbench.methods.lora_gen.adapted import AdaptedEdge
        from parbench.methods.lora_gen.model import LoraGen

        if names.head or not model.can_generate() or model.config.is_encoder_decoder:
            raise UserError(
                f'"lora_gen" needs a causal language model, and this is a {type(model).__name__}; use a task of '
                "language modelling, such as commonsense"
            )
        if setting.larger_layers:
            raise UserError('"lora_gen" delivers the same rank to all layers; leave larger_layers out')
        return AdaptedEdge(LoraGen(_cloud(model, setting), model, setting.config()))

    def parameter_groups(self, model: nn.Module, names: ModuleNames, setting: LoraGenSetting) -> list[ParameterGroup]:
        """Return the cloud's LoRA with the meta tokens, the routers, and the experts or the network in their place."""
        whole = cast("AdaptedEdge", model).lora_gen
        parts: dict[str, Iterable[nn.Module]] = {
            "cloud": [whole.encoder],
            "routers": whole.generator.routers,
            "experts": [*whole.generator.pools, *whole.generator.heads],
        }
        groups = {
            name: [p for m in modules for p in m.parameters() if p.requires_grad] for name, modules in parts.items()
        }
        return [ParameterGroup(name, each, setting.learning_rate) for name, each in groups.items() if each]

    def reported_parameters(self, model: nn.Module, names: ModuleNames) -> int:
        """Return the size of the generated LoRA."""
        return cast("AdaptedEdge", model).lora_gen.parameter_counts().delivered

    def with_size(self, setting: LoraGenSetting, size: int) -> LoraGenSetting:
        """Return ``setting`` at another rank and the same scale alpha / r."""
        return setting.model_copy(update={"r": size, "alpha": setting.alpha * size / setting.r})

    def prompt_encoder(self, setting: LoraGenSetting, processor: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
        """Return a function from a system prompt to the last ``prompt_length`` tokens of the cloud at most."""
        tokenizer = processor if setting.cloud is None else _cloud_tokenizer(setting)

        def encode(text: str) -> list[int]:
            tokens = list(tokenizer(text)["input_ids"])
            if tokens and tokens[-1] == tokenizer.eos_token_id:
                tokens.pop()
            begins = tokens[:1] if tokens[:1] == [tokenizer.bos_token_id] else []
            room = setting.prompt_length - len(begins)
            return tokens if len(tokens) <= setting.prompt_length else begins + tokens[len(tokens) - room :]

        return encode

    def adapter_state(self, model: nn.Module, names: ModuleNames) -> dict[str, torch.Tensor]:
        """Return the tensors of the generator."""
        return cast("AdaptedEdge", model).lora_gen.trainable_state()

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the generator, which `LoraGen.from_pretrained` reads."""
        cast("AdaptedEdge", model).lora_gen.save_pretrained(folder)

    def deliver(self, model: nn.Module, folder: Path) -> None:
        """Write the LoRA of each named system prompt of the evaluation into a folder that peft loads.

        The gates G of each prompt and layer are written to ``gates.json``, except with ``routing=direct``.
        """
        adapted = cast("AdaptedEdge", model)
        gates: dict[str, Any] = {}
        for name, prompt in adapted.prompts.items():
            adapted.lora_gen.generate(prompt).save(folder / DELIVERED / name)
            found = adapted.lora_gen.read(prompt).gates
            if found is not None:
                gates[name] = found[0].tolist()
        if gates:
            (folder / GATES).write_text(json.dumps(gates), encoding="utf-8")


def _cloud(edge: PreTrainedModel, setting: LoraGenSetting) -> PreTrainedModel:
    """Return the cloud model, from safetensors and without remote code; on the meta device if the edge is."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if setting.cloud is None:
        # Both are frozen, so they can share their tensors.
        return copy.deepcopy(edge, {id(parameter): parameter for parameter in edge.parameters()})
    source = _source(setting)
    dtype = getattr(torch, setting.cloud_precision)
    try:
        if edge.device.type == "meta":
            config = AutoConfig.from_pretrained(**source)
            with torch.device("meta"):
                return cast("PreTrainedModel", AutoModelForCausalLM.from_config(config, dtype=dtype))
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise _unavailable(setting, error) from error
    return cast("PreTrainedModel", cast("nn.Module", model).to(edge.device))


def _cloud_tokenizer(setting: LoraGenSetting) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(**_source(setting)))
    except (OSError, ValueError) as error:
        raise _unavailable(setting, error) from error


def _source(setting: LoraGenSetting) -> dict[str, Any]:
    """Return where the cloud model is, as arguments of ``from_pretrained``.

    Raises:
        UserError: it is neither a folder nor pinned to a commit.
    """
    name = cast(str, setting.cloud)
    folder = Path(name).expanduser()
    if not folder.is_dir() and setting.cloud_revision is None:
        raise UserError(
            f'the cloud model "{name}" is not a folder; if it is on the hub, give its commit as '
            "lora_gen.cloud_revision, so that the run can be repeated"
        )
    where = str(folder) if folder.is_dir() else name
    return {
        "pretrained_model_name_or_path": where,
        "revision": setting.cloud_revision or "main",
        "trust_remote_code": False,
    }


def _unavailable(setting: LoraGenSetting, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [""])[0]
    return UserError(
        f'the cloud model "{setting.cloud}" cannot be loaded; connect to the network the first time, or give a local '
        f"folder as lora_gen.cloud ({reason})"
    )


LORA_GEN = LoraGenMethod()
