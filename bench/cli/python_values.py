"""Python values as option values: lists for comma-separated text, mappings for KEY=VALUE."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from parbench.bench.cli.parsing import read_folder
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.methods.expression import split


def option_values(group: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an option group's fields.

    Raises:
        UserError: a value is of a wrong type, or is none of the choices.
    """
    hints = get_type_hints(group)
    return {name: _value(name, hints[name], value) for name, value in values.items()}


def _value(name: str, hint: Any, value: Any) -> Any:
    kinds = [hint] if get_origin(hint) in (Literal, list) else list(get_args(hint)) or [hint]
    if value is None:
        if NoneType in kinds:
            return None
        raise UserError(f"{name} is None; leave it out, or give a value")
    (kind,) = (kind for kind in kinds if kind is not NoneType)
    if get_origin(kind) is Literal:
        return _choice(name, value, get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(_choice(name, value, [entry.value for entry in kind]))
    if get_origin(kind) is list:
        return _assignments(name, value)
    if kind is str:
        return _text(name, value)
    if kind is Path:
        return _folder(name, value)
    return _number(name, value, kind)


def _choice(name: str, value: Any, choices: Iterable[str]) -> str:
    text = str(value)
    if text not in choices:
        raise UserError(f"{name} is {value!r}{did_you_mean(text, choices)}; give one of {', '.join(choices)}")
    return text


def _folder(name: str, value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{name} is {value!r}; give the path of a folder")
    try:
        return read_folder(Path(value) if str(value) else "")
    except typer.BadParameter as error:
        raise UserError(f"{name}: {error.message}") from error


def _number(name: str, value: Any, kind: type) -> Any:
    wanted = {bool: bool, int: Integral, float: Real}[kind]
    is_number = isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))
    if not is_number:
        article = {bool: "True or False", int: "a whole number", float: "a number"}[kind]
        raise UserError(f"{name} is {value!r}; give {article}")
    return kind(value)


def _text(name: str, value: Any) -> str:
    """Return a text as it is, and the items of a list with commas between them."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        return _item(name, value)
    items = [_item(name, item) for item in value]
    for item in items:
        if len(split(item, ",")) != 1 or not item:
            raise UserError(f"{name} has the item {item!r}; give one value per item of the list")
    return ",".join(items)


def _item(name: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, str | Real):
        raise UserError(f"{name} is {value!r}; give text, a number, or a list of them")
    return str(value)


def _assignments(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        try:
            return [f"{key}={item if isinstance(item, str) else json.dumps(item)}" for key, item in _flat(value)]
        except TypeError as error:
            raise UserError(f"{name}: {error}; give numbers, texts and lists") from error
    if isinstance(value, str):
        return [value]
    items = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(item, str) for item in items):
        raise UserError(f'{name} is {value!r}; give a mapping such as {{"lora.r": 4}}')
    return items


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values: of ``{"lora": {"r": 4}}`` the same as of ``{"lora.r": 4}``."""
    for key, value in values.items():
        if isinstance(value, Mapping) and "." not in str(key):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        else:
            yield key, value
