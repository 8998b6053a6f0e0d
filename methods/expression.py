"""The expressions that name a method: its name, values of options, and modifiers.

.. code-block:: text

    expression = name [ "(" option { "," option } ")" ] { "+" modifier [ "(" value { "," value } ")" ] }
    option     = key "=" value

Examples: ``lora``; ``lora(r=4,target_modules=[query,key,value])``; ``dora+qv_ratio(8)``;
``lora(r=16)+rslora+qv_ratio(4,strict)``.

Values are YAML. Modifiers are sorted, so that equal methods have equal names: ``lora+qv_ratio(4)+rslora`` is
``lora+rslora+qv_ratio(4)``. The values of options are not part of a method's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from parbench.bench.util.elsewhere import Elsewhere
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.reference import Reference
from parbench.bench.util.validation import in_place_of, validated
from parbench.bench.util.yaml import read_yaml
from parbench.methods import METHODS
from parbench.methods.base import Method
from parbench.methods.declaration import check_declaration
from parbench.methods.modifiers import LoraOption, LoraPlus, QvRatio, RankStabilised
from parbench.methods.setting import Setting

_ELSEWHERE = Elsewhere(
    renamed={
        "full_finetuning": "full",
        "full_fine_tuning": "full",
        "finetuning": "full",
        "fft": "full",
        "sft": "full",
        "bias": "bitfit",
        "linear_probing": "linear_probe",
        "head": "linear_probe",
    },
    explained={
        "qlora": "it is lora on quantised weights, --methods lora --base-precision nf4",
        "qdora": "it is dora on quantised weights, --methods dora --base-precision nf4",
        "loraplus": "it is a modifier, as in lora+lora_plus(16)",
    },
)


@dataclass(frozen=True)
class ResolvedMethod:
    """The method that an expression names.

    Attributes:
        method: the method, with the modifiers of the expression.
        values: the options that the expression sets; they override defaults and presets.
        registered: the method's name in `parbench.methods.METHODS`, without modifiers.
    """

    method: Method[Any]
    values: Mapping[str, Any]
    registered: str

    @property
    def setting_names(self) -> tuple[str, ...]:
        """Names under which suites and ``--set`` may have values for it: without its modifiers, then with them."""
        return tuple(dict.fromkeys((self.registered, self.method.name)))

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the Python modules with the method's code."""
        own = METHODS.entry(self.registered).module
        return (own,) if self.method.name == self.registered else (own, "parbench.methods.modifiers")


def parse(expression: str) -> ResolvedMethod:
    """Return the method that an expression names, and the values it fixes.

    Raises:
        UserError: the expression cannot be parsed, or a name in it is unknown.
    """
    head, *modifiers = (_Term.read(part, expression) for part in split(expression, "+"))
    if head.name not in METHODS and (hint := _elsewhere(head.name)):
        raise UserError(f'there is no method called "{head.name}"{hint}')
    method = METHODS[head.name]
    check_declaration(method)
    values = head.options(method, expression)
    names = [term.name for term in modifiers]
    for name in names:
        if name not in MODIFIERS:
            raise UserError(f'there is no modifier called "{name}"{did_you_mean(name, MODIFIERS)}')
        if names.count(name) > 1:
            raise UserError(f'"{expression}" has the modifier "{name}" twice')
    for pair, reason in _EXCLUSIVE.items():
        if pair <= set(names):
            raise UserError(f'"{expression}" cannot have both {" and ".join(sorted(pair))}: {reason}')
    for term in sorted(modifiers, key=lambda term: list(MODIFIERS).index(term.name)):
        method = MODIFIERS[term.name](method, term, expression)
    return ResolvedMethod(method, values, head.name)


def _elsewhere(name: str) -> str | None:
    """Return how a message on a method goes on that has another name here, or is something else."""
    if name in MODIFIERS:
        return f": it is a modifier, as in lora+{name}"
    return _ELSEWHERE.hint(name.lower(), list(METHODS))


def split(text: str, separator: str) -> list[str]:
    """Split a text at a character where no bracket is open; parts are stripped.

    Raises:
        UserError: brackets do not match.
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            break
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise UserError(f'the brackets of "{text}" do not match')
    return [part.strip() for part in parts]


@dataclass(frozen=True)
class _Term:
    """A name and what stands in brackets behind it."""

    name: str
    arguments: tuple[str, ...]

    @classmethod
    def read(cls, text: str, expression: str) -> _Term:
        match = re.fullmatch(r"(?P<name>[^\s()=,]+)\s*(\((?P<arguments>.*)\))?", text)
        if expression and not text:
            raise UserError(f'"{expression}" has nothing before or behind a "+"')
        given = (match["arguments"] or "").strip() if match else ""
        try:
            arguments = split(given, ",") if given else []
        except UserError:  # the bracket behind the name is not the one that closes at the end
            match = None
        if match is None:
            raise UserError(f'"{expression}" is not of the form name(option=value)+modifier(value): "{text}"')
        return cls(match["name"], tuple(arguments))

    def options(self, method: Method[Any], expression: str) -> dict[str, Any]:
        """Read the arguments as values for a method's options."""
        values: dict[str, Any] = {}
        for argument in self.arguments:
            option, equals, value = argument.partition("=")
            option = option.strip()
            if not equals or option in values:
                fault = "a second value" if equals else "not of the form option=value"
                raise UserError(f'"{argument}" in "{expression}" is {fault}')
            if option not in method.setting_type.model_fields:
                known = in_place_of(option, method.setting_type)
                raise UserError(f'the method "{method.name}" has no option "{option}"{known}')
            try:
                values[option] = read_yaml(value)
            except ValueError as error:
                raise UserError(f'the value in "{argument}" is neither a number, a word nor a [list]') from error
        return values

    def ratio(self, expression: str) -> float:
        """Read the first argument as a factor."""
        text = self.arguments[0] if self.arguments else ""
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise UserError(f'"{self.name}" in "{expression}" needs a positive factor, as in {self.name}(4)')
        return value

    def no_more_than(self, count: int, expression: str) -> None:
        """Raise a `UserError` for further arguments, which would have no effect."""
        if len(self.arguments) > count:
            extra = ", ".join(self.arguments[count:])
            raise UserError(f'"{self.name}" in "{expression}" takes no "{extra}"')


Apply = Callable[[Method[Any], _Term, str], Method[Any]]


def _option(reference: Reference, **options: Any) -> Apply:
    def apply(method: Method[Any], term: _Term, expression: str) -> Method[Any]:
        term.no_more_than(0, expression)
        return LoraOption(method, term.name, reference, **options)

    return apply


def _rank_stabilised(method: Method[Any], term: _Term, expression: str) -> Method[Any]:
    term.no_more_than(0, expression)
    return RankStabilised(method, term.name)


def _lora_plus(method: Method[Any], term: _Term, expression: str) -> Method[Any]:
    term.no_more_than(1, expression)
    return LoraPlus(method, term.ratio(expression))


def _qv_ratio(method: Method[Any], term: _Term, expression: str) -> Method[Any]:
    ratio = term.ratio(expression)
    strict = term.arguments[1:2] == ("strict",)
    term.no_more_than(2 if strict else 1, expression)
    if strict and isinstance(method, LoraPlus):
        raise UserError(f'"{expression}": the strict qv_ratio is the authors\' whole grouping, which has no lora_plus')
    return QvRatio(method, ratio, strict)


# In the order of application: modifiers of the model come before those that split its parameters.
MODIFIERS: dict[str, Apply] = {
    "olora": _option(
        Reference("OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models", 2024, "arXiv", "2406.01775"),
        init_lora_weights="olora",
    ),
    "pissa": _option(
        Reference(
            "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",
            2024,
            "NeurIPS",
            "2404.02948",
        ),
        init_lora_weights="pissa",
    ),
    "rslora": _rank_stabilised,
    "lora_plus": _lora_plus,
    "qv_ratio": _qv_ratio,
}

_EXCLUSIVE = {frozenset({"olora", "pissa"}): "both are the start of the same factors"}


def default_setting(choice: ResolvedMethod) -> Setting:
    """Return the defaults of a method under what its expression fixes.

    Raises:
        UserError: a value is wrong.
    """
    return validated(choice.method.setting_type, choice.values, f"the setting of {choice.method.name}")
