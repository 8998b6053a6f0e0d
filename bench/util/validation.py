"""Turns pydantic's errors about input of the user into sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from parbench.bench.util.elsewhere import Elsewhere
from parbench.bench.util.errors import UserError, did_you_mean

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Mapping[str, Any], what: str) -> M:
    """Return ``values`` as a ``model``; ``what`` is the subject of the sentence if they are not one.

    Raises:
        UserError: they are not.
    """
    for name, value in values.items():
        # pydantic accepts true as 1.
        if isinstance(value, bool) and name in model.model_fields and _is_number(model.model_fields[name].annotation):
            raise UserError(f'{what} is wrong: field "{name}": input should be a number (it is {value})')
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{what} is wrong: {explain(error, model)}") from error


def _is_number(annotation: Any) -> bool:
    kinds = [annotation]
    for kind in kinds:  # unions and annotated types hold others
        kinds.extend(get_args(kind))
    return (int in kinds or float in kinds) and bool not in kinds


def in_place_of(name: str, model: type[BaseModel]) -> str:
    """Return how a message on a field that a model does not have goes on: with the one that is meant, or all of them.

    Names of other libraries are known by the model's ``elsewhere``, an `Elsewhere`, if it has one.
    """
    elsewhere: Elsewhere = getattr(model, "elsewhere", Elsewhere())
    fields = model.model_fields
    return elsewhere.hint(name, fields) or (did_you_mean(name, fields) if fields else "")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return pydantic's first error as a part of a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f'there is no field "{where}"{in_place_of(where, model) if len(first["loc"]) == 1 else ""}'
    given = "" if first["type"] == "missing" else f" (it is {first['input']!r})"
    # What YAML calls a list, pydantic reads into a tuple.
    message = first["msg"].removeprefix("Value error, ").replace("tuple", "list")
    message = message[:1].lower() + message[1:]
    return f'field "{where}": {message}{given}' if where else f"{message}"
