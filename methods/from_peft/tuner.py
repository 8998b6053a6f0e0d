"""Base classes of the peft tuners of this package: merging, precision, unloading, and adapter files."""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from parbench.methods.adapter_files import sorted_sets, write_card
from parbench.methods.architecture import shared_weights
from parbench.methods.selection import Selection, matches

MERGEABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes of weights that an update can be added to; 8 bits would lose most of it to rounding."""


def check_mergeable(weight: Any, adapter: str) -> None:
    """Check that an update can be added to a weight.

    Raises:
        ValueError: the weight is quantised: its dtype is none of `MERGEABLE`, or it is a tensor subclass of a
            quantisation library, whose dtype is that of its dequantised values.
    """
    if weight.dtype not in MERGEABLE or type(weight) not in (Tensor, nn.Parameter):
        kind = str(weight.dtype).removeprefix("torch.")
        stored = kind if type(weight) in (Tensor, nn.Parameter) else f"{type(weight).__name__}, {kind}"
        raise ValueError(
            f"cannot merge adapter {adapter!r} into a quantized base weight ({stored}), which would round the update "
            "away; load the base model without quantization, or use the adapter unmerged"
        )


# Where a layer of peft keeps the module that it adapts.
_BASE = "base_layer"


def _check_unshared(module: str, owners: Sequence[str]) -> None:
    """Check that a merge into the weight of a module changes no other one.

    Raises:
        ValueError: the weight has several ``owners``.
    """
    others = [name.removesuffix(f".{_BASE}") for name in owners if name != f"{module}.{_BASE}"]
    if others:
        raise ValueError(
            f"cannot merge into the weight of {module}, which {others[0]} shares; use the adapter unmerged"
        )


def keeping_precision(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return ``convert``, a function of `nn.Module._apply`, without conversions of float32 or float64 to fewer bits.

    Moves to another device are kept.
    """

    def converted(tensor: Tensor) -> Tensor:
        result = convert(tensor)
        lowered = tensor.is_floating_point() and result.dtype.itemsize < 4 <= tensor.dtype.itemsize
        return tensor.to(result.device) if lowered else result

    return converted


class FullPrecisionParameterDict(nn.ParameterDict):
    """Parameters that stay in float32 when the whole model is cast to 16 bits, as by ``model.bfloat16()``."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(keeping_precision(fn), recurse)


class FullPrecisionModuleDict(nn.ModuleDict):
    """Modules that stay in float32 when the whole model is cast to 16 bits, as by ``model.bfloat16()``."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(keeping_precision(fn), recurse)


class TunerConfig(PeftConfig):
    """Base class of configurations: identical ``adapter_config.json`` for identical adapters, and a card.

    Attributes:
        import_name: the module whose import registers the tuner; the configuration's own module if not set.
    """

    import_name: ClassVar[str | None] = None

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write ``adapter_config.json``, and into ``README.md`` which import lets peft load the folder."""
        with sorted_sets(self):
            super().save_pretrained(save_directory, **kwargs)
        write_card(Path(save_directory), str(PeftType(self.peft_type).value), self.import_name or type(self).__module__)


class AddedUpdateLayer(BaseTunerLayer):
    """A layer whose adapters add to the base weight, so that they can be merged into it and taken out again."""

    merged_adapters: list[str]

    @abstractmethod
    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the update of the base weight, in the weight's orientation and at least float32."""

    def has_adapter(self, adapter: str) -> bool:
        """Return whether this layer has an adapter of that name."""
        return any(adapter in getattr(self, name) for name in self.adapter_layer_names)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the update of the named adapters (default: all active ones) to the base weight.

        Raises:
            ValueError: the base weight is quantised; or, with ``safe_merge``, the merged weight is not finite. The
                base weight is then unchanged.
        """
        for adapter in check_adapters_to_merge(self, adapter_names):
            if not self.has_adapter(adapter):
                continue
            merged = self._shifted_base_weight(adapter, 1)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"the merged weight is not finite: adapter {adapter!r} is broken and was not merged")
            self.set_base_weight(merged)
            self.merged_adapters.append(adapter)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Subtract the update of all merged adapters from the base weight.

        Raises:
            ValueError: the base weight was quantised after merging.
        """
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self.merged_adapters:
            self.set_base_weight(self._shifted_base_weight(self.merged_adapters[-1], -1))
            self.merged_adapters.pop()

    def _shifted_base_weight(self, adapter: str, sign: int) -> Tensor:
        weight: Any = self.get_base_layer().weight
        check_mergeable(weight, adapter)
        base, delta = weight.data, self.get_delta_weight(adapter).to(weight.device)
        # Rounded once, after the sum.
        return (base.to(torch.promote_types(base.dtype, delta.dtype)) + sign * delta).to(base.dtype)


class Tuner(BaseTuner):
    """Base class of tuners: merges all layers or none, and unloads task heads of several layers.

    Attributes:
        heads_by_peft: whether peft adds the heads of a task to ``modules_to_save``. It does so for all adapters of a
            model whose first adapter has a ``task_type``, also for those without one and after the first is deleted.
    """

    heads_by_peft: bool = False

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add the adapter to the target modules.

        Raises:
            ValueError: a module, layer or pattern of the configuration matches nothing, unless the configuration is for
                inference, as that of a loaded adapter.
        """
        config: Any = self.peft_config[adapter_name]
        self.heads_by_peft = self.heads_by_peft or config.task_type is not None
        selection, by_default = Selection.of_config(config, self.heads_by_peft), config.target_modules is None
        if not config.inference_mode:
            selection.check_names(model)
            expected = self._expected_targets(model, config)
            if expected and not by_default:
                selection.check_adapted(expected, config.modules_to_save or ())
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        if by_default and isinstance(config.target_modules, set | list):
            # Defaults list the names of all versions of an architecture; only those of this model are written.
            adapted = self.targeted_module_names
            if not config.inference_mode:
                selection.check_adapted(adapted)
            config.target_modules = {name for name in config.target_modules if matches(name, adapted)}

    def _expected_targets(self, model: nn.Module, config: Any) -> list[str]:
        """Return the modules that will be adapted; none where the targets are still to be chosen."""
        if config.target_modules is None:
            return []
        names = [name for name, _ in model.named_modules() if name]
        # Excluded modules give an object of their own, and modules matched by a regular expression a match.
        found = {name: self._check_target_module_exists(config, name) for name in names}
        return [name for name, target in found.items() if target is True or isinstance(target, re.Match)]

    def _check_merge_allowed(self) -> None:
        super()._check_merge_allowed()
        # All layers are checked before the first one is changed.
        shared = {name: names for names in shared_weights(self.model) for name in names}
        for name, module in self.model.named_modules():
            if isinstance(module, AddedUpdateLayer):
                for adapter in module.active_adapters:
                    if module.has_adapter(adapter):
                        check_mergeable(module.get_base_layer().weight, adapter)
                        _check_unshared(name, shared.get(f"{name}.{_BASE}", ()))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        if isinstance(child, ModulesToSaveWrapper):
            # A head that is unloaded: it may have several layers, where peft looks for the one weight of a layer.
            setattr(parent, child_name, new_module)
            return
        super()._replace_module(parent, child_name, new_module, child)
