"""Checks that every name, pattern and index by which a user selects modules matches something.

peft ignores an entry without a match as long as another entry matches, so that a misspelt name gives a smaller adapter
than intended.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.methods.setting import ALL_LINEAR

if TYPE_CHECKING:
    from torch import nn

    from parbench.methods.setting import Setting

MODULES = "target_modules"
HEADS_OF_PEFT = ("classifier", "score", "qa_outputs")
"""Names that peft adds to ``modules_to_save`` whether or not a model has them."""


@dataclass(frozen=True)
class Selection:
    """The modules that a user has selected, by option.

    Attributes:
        modules: names of modules, or of their last parts.
        layers: indices of layers.
        patterns: regular expressions for the names of adapted modules, matched as peft's ``rank_pattern``.
        present: names that must exist in the model but need not be adapted, such as excluded modules.
        expressions: regular expressions in place of a list of names.
    """

    modules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    layers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    patterns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    present: Mapping[str, Sequence[str]] = field(default_factory=dict)
    expressions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_setting(cls, setting: Setting) -> Selection:
        """Return what a method's setting selects; fields of peft's configurations are recognised by their names."""
        return cls._of({name: getattr(setting, name) for name in type(setting).model_fields})

    @classmethod
    def of_config(cls, config: Any, heads_by_peft: bool) -> Selection:
        """Return what a peft configuration selects.

        Args:
            config: the configuration.
            heads_by_peft: whether peft may have added the heads of a task, which are then not the user's selection.
        """
        values = dict(vars(config))
        if heads_by_peft:
            values["modules_to_save"] = [name for name in config.modules_to_save or () if name not in HEADS_OF_PEFT]
        return cls._of(values)

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Selection:
        def listed(option: str) -> Sequence[Any]:
            value = values.get(option)
            return () if value is None or isinstance(value, str) else (value,) if isinstance(value, int) else [*value]

        modules = [name for name in values if name == MODULES or name.startswith(f"{MODULES}_")]
        patterns = [name for name, value in values.items() if name.endswith("_pattern") and isinstance(value, Mapping)]
        expressions = {name: values.get(name) for name in (*modules, "exclude_modules")}
        return cls(
            expressions={
                name: value for name, value in expressions.items() if isinstance(value, str) and value != ALL_LINEAR
            },
            modules={name: listed(name) for name in modules},
            layers={name: listed(name) for name in ("layers", "larger_layers", "layers_to_transform")},
            patterns={name: list(values[name]) for name in patterns},
            present={name: listed(name) for name in ("exclude_modules", "target_parameters", "modules_to_save")},
        )

    def check_names(self, model: nn.Module) -> None:
        """Check that ``model``, which is not adapted yet, has the modules and layers.

        Raises:
            UserError: the model does not have a module, parameter or layer.
        """
        present = [name for name, _ in model.named_modules() if name]
        named = [*present, *(name for name, _ in model.named_parameters())]
        for option, names in {**self.modules, **self.present}.items():
            for name in names:
                if not matches(name, named):
                    known = did_you_mean(name, _last_parts(present))
                    raise UserError(f'{option} has "{name}", which no module of this model is called{known}')
        for option, expression in self.expressions.items():
            if not any(re.fullmatch(expression, name) for name in present):
                raise UserError(f'{option} is the regular expression "{expression}", which matches no module')
        layers = sorted({index for index in map(layer_index, present) if index is not None})
        for option, indices in self.layers.items():
            for index in indices:
                if index not in layers:
                    raise UserError(f"{option} has {index}, but the layers of this model are {_listed(layers)}")

    def check_adapted(self, adapted: Collection[str], head: Collection[str] = ()) -> None:
        """Check that everything selected is adapted.

        Args:
            adapted: full names of the adapted modules.
            head: names of the task head's modules.

        Raises:
            UserError: a name, an index or a pattern matches no adapted module.
        """
        chosen = next((indices for indices in self.layers.values() if indices), ())
        excludes = bool(self.present.get("exclude_modules") or self.expressions.get("exclude_modules"))
        for option, names in self.modules.items():
            for name in names:
                if matches(name, adapted):
                    continue
                reason = "no module of that name can be adapted"
                if not set(head).isdisjoint(name.split(".")):
                    reason = "that is the task head, which is trained whole anyway"
                elif excludes:  # a target may be excluded on purpose
                    continue
                elif chosen:
                    reason = f"no module of that name is on the layers {_listed(chosen)}"
                raise UserError(f'{option} has "{name}", but {reason}; leave it out')
        found = {index for index in map(layer_index, adapted) if index is not None}
        for option, indices in self.layers.items():
            for index in indices:
                if index not in found:
                    raise UserError(f"{option} has {index}, but no module on that layer is adapted; leave it out")
        for option, patterns in self.patterns.items():
            for pattern in patterns:
                if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in adapted):
                    known = did_you_mean(pattern, _last_parts(adapted))
                    raise UserError(f'{option} has "{pattern}", which matches no adapted module{known}')


def layer_index(module: str) -> int | None:
    """Return the first number in a module's name, which counts the layers; ``None`` where there is none."""
    return next((int(part) for part in module.split(".") if part.isdecimal()), None)


def adapted_modules(model: Any) -> list[str]:
    """Return the names, in the base model, of the modules that peft has adapted; none of a model without peft."""
    return list(getattr(getattr(model, "base_model", None), "targeted_module_names", ()))


def matches(name: str, modules: Iterable[str]) -> bool:
    """Return whether a module has this name, or a name that ends with it, as peft matches ``target_modules``."""
    return any(module == name or module.endswith(f".{name}") for module in modules)


def _last_parts(modules: Iterable[str]) -> list[str]:
    parts = (module.rpartition(".")[2] for module in modules)
    return sorted({part for part in parts if not part.isdecimal()})


def _listed(indices: Sequence[int]) -> str:
    """Return ``0, 2 and 5``, or ``0 to 11`` for a run of more than three."""
    if len(indices) > 3 and list(indices) == list(range(indices[0], indices[-1] + 1)):
        return f"{indices[0]} to {indices[-1]}"
    if not indices:
        return "none"
    *others, last = map(str, indices)
    return f"{', '.join(others)} and {last}" if others else last
