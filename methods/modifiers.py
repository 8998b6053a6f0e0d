"""Modifiers: changes to a method that papers propose for any method, or for any variant of LoRA.

They follow a method's name, as in ``lora+qv_ratio(4)`` (see `parbench.methods.expression`). A modified method has the
hyper-parameters of the method inside, and its own name and paper.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.methods.architecture import shared_weights
from parbench.methods.base import Method, ParameterGroup
from parbench.methods.lora import Lora
from parbench.methods.selection import adapted_modules

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from peft import LoraConfig, PeftConfig
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from parbench.methods.architecture import ModuleNames
    from parbench.methods.base import Setting

Role = Literal["query", "key", "value"]
HEAD = "head"


class Modified(Method[Any], ABC):
    """A method with one modification; everything else is delegated to the method ``inner``."""

    def __init__(self, inner: Method[Any], modifier: str) -> None:
        self.inner = inner
        self.name = f"{inner.name}+{modifier}"
        self.setting_type = inner.setting_type
        self.size_knob = inner.size_knob
        self.search_space = inner.search_space
        self.starts_at_base = inner.starts_at_base
        self.mergeable = inner.mergeable
        self.allows_checkpointing = inner.allows_checkpointing
        self.reads_system_prompt = inner.reads_system_prompt
        self.rows_are_independent = inner.rows_are_independent
        self.may_rest = inner.may_rest

    @property
    def innermost(self) -> Method[Any]:
        """The method without modifiers."""
        return self.inner.innermost if isinstance(self.inner, Modified) else self.inner

    def config(self, names: ModuleNames, setting: Setting) -> PeftConfig:
        """Return the inner method's configuration."""
        return self.inner.config(names, setting)

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: Setting) -> nn.Module:
        """Adapt as the inner method does."""
        return self.inner.adapt(model, names, setting)

    def parameter_groups(self, model: nn.Module, names: ModuleNames, setting: Setting) -> list[ParameterGroup]:
        """Return the inner method's groups."""
        return self.inner.parameter_groups(model, names, setting)

    def reported_parameters(self, model: nn.Module, names: ModuleNames) -> int:
        """Count as the inner method's paper does."""
        return self.inner.reported_parameters(model, names)

    def with_size(self, setting: Setting, size: int) -> Setting:
        """Resize as the inner method does."""
        return self.inner.with_size(setting, size)

    def atom_norm(self, setting: Setting, shape: tuple[int, int]) -> float | None:
        """Return the inner method's norm."""
        return self.inner.atom_norm(setting, shape)

    def virtual_tokens(self, setting: Setting) -> int:
        """Return the inner method's number."""
        return self.inner.virtual_tokens(setting)

    def adapter_state(self, model: nn.Module, names: ModuleNames) -> dict[str, torch.Tensor]:
        """Return the inner method's tensors."""
        return self.inner.adapter_state(model, names)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Save as the inner method does."""
        self.inner.save(model, folder)

    def rank_of(self, setting: Setting) -> int | None:
        """Return the inner method's rank."""
        return self.inner.rank_of(setting)

    def schedule_share(self, setting: Setting) -> float:
        """Return the inner method's share."""
        return self.inner.schedule_share(setting)

    def callbacks(self, setting: Setting) -> list[TrainerCallback]:
        """Return the inner method's callbacks."""
        return self.inner.callbacks(setting)

    def prompt_encoder(self, setting: Setting, processor: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
        """Return the inner method's encoder."""
        return self.inner.prompt_encoder(setting, processor)

    def deliver(self, model: nn.Module, folder: Path) -> None:
        """Deliver as the inner method does."""
        self.inner.deliver(model, folder)


class LoraOption(Modified):
    """A LoRA with an option of peft's `LoraConfig`."""

    def __init__(self, inner: Method[Any], modifier: str, reference: Reference, **options: Any) -> None:
        super().__init__(inner, modifier)
        _check_lora(self.innermost, modifier)
        self.reference = reference
        self.options = options

    def config(self, names: ModuleNames, setting: Setting) -> LoraConfig:
        """Return the inner method's `LoraConfig` with the option."""
        return replace(cast("LoraConfig", self.inner.config(names, setting)), **self.options)

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: Setting) -> nn.Module:
        """Adapt with the changed configuration.

        Raises:
            UserError: OLoRA on a model of `Conv1D` modules, whose forward pass fails in peft; or a start that changes
                the weights of modules that other modules share.
        """
        from transformers.pytorch_utils import Conv1D

        start = self.options.get("init_lora_weights")
        if start == "olora" and any(isinstance(m, Conv1D) for m in model.modules()):
            raise UserError(
                f'the modifier "olora" does not work in peft on the Conv1D modules of a {model.config.model_type}; '
                "use pissa"
            )
        shared = shared_weights(model) if start else []
        adapted = Method.adapt(self, model, names, setting)
        targets = set(adapted_modules(adapted))
        if both := next((several for several in shared if not targets.isdisjoint(several)), None):
            raise UserError(
                f'the modifier "{start}" changes the weights that it starts from, and {both[0]} and {both[1]} share '
                "theirs; use lora without it, or other target_modules"
            )
        return adapted


class RankStabilised(LoraOption):
    """rsLoRA: the update is scaled by alpha / sqrt(r), and other ranks keep this scale."""

    reference = Reference("A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023, "arXiv", "2312.03732")

    def __init__(self, inner: Method[Any], modifier: str) -> None:
        super().__init__(inner, modifier, self.reference, use_rslora=True)

    def config(self, names: ModuleNames, setting: Any) -> LoraConfig:
        """Return the inner method's `LoraConfig`, its larger layers scaled like the others."""
        config = super().config(names, setting)
        alpha = setting.alpha * math.sqrt((setting.r + 1) / setting.r)
        config.alpha_pattern = dict.fromkeys(config.rank_pattern or (), alpha)
        return config

    def with_size(self, setting: Any, size: int) -> Setting:
        """Return ``setting`` at another rank and the same scale."""
        return setting.model_copy(update={"r": size, "alpha": setting.alpha * math.sqrt(size / setting.r)})


class LoraPlus(Modified):
    """LoRA+: B learns ``ratio`` times as fast as A.

    Parameters are split as in `peft.optimizers.create_loraplus_optimizer`: vectors, such as DoRA's magnitudes, are in
    the group of B. Unlike in peft, the task head keeps its own learning rate.
    """

    reference = Reference("LoRA+: Efficient Low Rank Adaptation of Large Models", 2024, "ICML", "2402.12354")

    def __init__(self, inner: Method[Any], ratio: float) -> None:
        super().__init__(inner, f"lora_plus({ratio:g})")
        _check_lora(self.innermost, "lora_plus")
        self.ratio = ratio

    def parameter_groups(self, model: nn.Module, names: ModuleNames, setting: Setting) -> list[ParameterGroup]:
        """Split each of the inner method's groups in two."""
        in_b = {id(p) for name, p in model.named_parameters() if "lora_B" in name or p.ndim == 1}
        groups = self.inner.parameter_groups(model, names, setting)
        return list(_split_groups(groups, lambda p: "B" if id(p) in in_b else "A", {"A": 1.0, "B": self.ratio}))


class QvRatio(Modified):
    """EfficientFT: the value projections learn ``ratio`` times as fast as the query (and key) projections.

    Yao et al., 2025: fine-tune query and value only, with eta_V = ratio eta_Q. Each group of the inner method is split.
    The task head keeps its learning rate, and all parameters keep the weight decay of the training settings.

    ``strict`` repeats the grouping of the authors' code, which is by parameter names: ``learning_rate`` also applies to
    the matrices of the head, whose biases are in the group of the value projections (``head_learning_rate`` has no
    effect); vectors of projections not called "query" or "key", such as DoRA's magnitudes in Llama, are in that group,
    too; there is no weight decay.
    """

    reference = Reference(
        "Theoretical Insights into Fine-Tuning Attention Mechanism: Generalization and Optimization",
        2025,
        "IJCAI",
        "2410.02247",
    )

    def __init__(self, inner: Method[Any], ratio: float, strict: bool = False) -> None:
        super().__init__(inner, f"qv_ratio({ratio:g}{',strict' if strict else ''})")
        self.ratio = ratio
        self.strict = strict

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: Setting) -> nn.Module:
        """Adapt as the inner method does.

        Raises:
            UserError: a trained parameter belongs to no projection of queries, keys or values alone.
        """
        if names.value in (names.query, names.key):
            both = "both" if names.query == names.value else "keys and values"
            raise UserError(
                f'"{self.name}" needs query and value projections of their own, but a {model.config.model_type} has '
                f'one for {both}, "{names.value}"; use a model that keeps them apart'
            )
        adapted = self.inner.adapt(model, names, setting)
        self._roles(adapted, names)
        return adapted

    def parameter_groups(self, model: nn.Module, names: ModuleNames, setting: Setting) -> list[ParameterGroup]:
        """Split the parameters by projection.

        Raises:
            UserError: a trained parameter belongs to no projection of queries, keys or values alone.
        """
        roles = self._roles(model, names)
        groups = self.inner.parameter_groups(model, names, setting)
        if self.strict:
            return list(self._as_the_authors(groups, model, setting.learning_rate))
        return list(_split_groups(groups, lambda p: roles[id(p)], {"query": 1.0, "key": 1.0, "value": self.ratio}))

    def _roles(self, model: nn.Module, names: ModuleNames) -> dict[int, Role]:
        modules: dict[str, Role] = {names.query: "query", names.key: "key", names.value: "value"}
        roles: dict[int, Role] = {}
        # All names: a parameter shared by projections has several, and belongs to none of them.
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if names.in_head(name) or not parameter.requires_grad:
                continue
            found = [modules[part] for part in name.split(".") if part in modules]
            if len(found) != 1 or roles.get(id(parameter), found[0]) != found[0]:
                raise UserError(
                    f'"{self.name}" cannot tell whether "{name}" belongs to queries or to values; use a method that '
                    f"trains these apart, on target_modules=[{names.query},{names.value}] only"
                )
            roles[id(parameter)] = found[0]
        if not {"query", "value"} <= set(roles.values()):
            raise UserError(
                f'"{self.name}" needs trained queries and values; set target_modules=[{names.query},{names.value}]'
            )
        return roles

    def _as_the_authors(
        self, groups: Sequence[ParameterGroup], model: nn.Module, rate: float
    ) -> Iterator[ParameterGroup]:
        role_of = {id(p): role_by_name(name, p.ndim) for name, p in model.named_parameters()}
        for group in groups:
            for role in dict.fromkeys(role_of[id(p)] for p in group.parameters):
                yield ParameterGroup(
                    HEAD if group.name == HEAD else f"{group.name}_{role}",
                    [p for p in group.parameters if role_of[id(p)] == role],
                    rate * (self.ratio if role == "value" else 1.0),
                    weight_decay=0.0,
                )


def _check_lora(method: Method[Any], modifier: str) -> None:
    if not isinstance(method, Lora):
        raise UserError(f'the modifier "{modifier}" is for lora and dora, not for "{method.name}"')


def role_by_name(name: str, dimensions: int) -> Role:
    """Return the group of a parameter in the code of EfficientFT's authors; ``key`` holds everything else."""
    if "value" in name or "v_proj" in name or dimensions == 1:
        return "query" if "query" in name else "key" if "key" in name else "value"
    return "query" if "query" in name or "q_proj" in name else "key"


def _split_groups(
    groups: Sequence[ParameterGroup], part_of: Callable[[nn.Parameter], str], factors: Mapping[str, float]
) -> Iterator[ParameterGroup]:
    """Split every group except the head into parts whose learning rates are multiplied by ``factors``."""
    for group in groups:
        if group.name == HEAD:
            yield group
            continue
        parts: dict[str, list[nn.Parameter]] = {}
        for parameter in group.parameters:
            parts.setdefault(part_of(parameter), []).append(parameter)
        for part in factors:
            if part in parts:
                rate = group.learning_rate * factors[part]
                yield replace(group, name=f"{group.name}_{part}", parameters=parts[part], learning_rate=rate)
