"""Which modules a setting's ``target_modules`` names in a model: names of its parts, and all its linear layers.

``all-linear`` is peft's word for what QLoRA adapts (arXiv 2305.14314): all linear layers but the head and the output
over the vocabulary. Of a model with parts these are its language model's; ``vision_tower:all-linear`` are another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from parbench.bench.util.errors import UserError
from parbench.methods.architecture import ModuleNames
from parbench.methods.parts import LANGUAGE_MODEL, modules_in, suffix
from parbench.methods.selection import layer_index
from parbench.methods.setting import ALL_LINEAR, Setting

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

S = TypeVar("S", bound=Setting)


def located(setting: S, model: PreTrainedModel, names: ModuleNames) -> S:
    """Return a setting whose ``target_modules`` are names of modules: ``all-linear`` and parts are looked up.

    Args:
        setting: the setting.
        model: the base model.
        names: of its modules.

    Raises:
        UserError: the model has no parts, not this one, no module of the name inside it, or no linear layers.
    """
    targets: Sequence[str] = setting.target_modules or ()
    if not any(":" in target or target == ALL_LINEAR for target in targets):
        return setting
    found: list[str] = []
    for target in targets:
        part, colon, name = target.rpartition(":")
        if colon and names.parts is None:
            raise UserError(f'target_modules has "{target}", and this model has no parts; leave "{part}:" out')
        if name == ALL_LINEAR:
            found += _all_linear(setting, model, names, part)
        elif colon and names.parts:
            inside = modules_in(model, names.parts.module(part), (name,))
            if not inside:
                raise UserError(f'target_modules has "{target}", and no module of the {part} is called "{name}"')
            found += inside
        else:
            found.append(target)
    return setting.model_copy(update={"target_modules": tuple(dict.fromkeys(found))})


def _all_linear(setting: Setting, model: PreTrainedModel, names: ModuleNames, part: str) -> list[str]:
    """Return names of all linear layers that can be adapted: last parts, where no other module has them."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    inside = names.parts.module(part or LANGUAGE_MODEL) if names.parts else None
    vocabulary = model.get_output_embeddings()

    def fits(name: str, module: nn.Module) -> bool:
        linear = isinstance(module, (nn.Linear, Conv1D)) and module is not vocabulary
        return linear and not names.in_head(name) and (inside is None or inside in name.split("."))

    linear = [name for name, module in model.named_modules() if fits(name, module)]
    if not linear:
        raise UserError(f"target_modules has {ALL_LINEAR}, and this model has no linear layers")
    if setting.layers is not None:
        # Where the model has none of these layers, that is what is said of them later.
        linear = [name for name in linear if layer_index(name) in setting.layers] or linear
    kept = set(linear)
    named_alike = {_last(name) for name, _ in model.named_modules() if name not in kept}
    return [suffix(name, inside) if _last(name) in named_alike else _last(name) for name in linear]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
