"""Checks the attributes of a method before any model is adapted."""

from __future__ import annotations

import math
from typing import Any

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.reference import Reference
from parbench.methods.base import Dimension, Method, Setting, SizeKnob

UPDATE_STEP = "update_step"
REQUIRED = ("name", "reference", "setting_type")


def check_declaration(method: object) -> None:
    """Check the attributes of a method.

    Raises:
        UserError: what `declaration_fault` returns.
    """
    if fault := declaration_fault(method):
        raise UserError(fault)


def declaration_fault(method: object) -> str | None:
    """Return one sentence on the first fault in the attributes of a method, or ``None``."""
    if isinstance(method, type):
        return f"{method.__name__} is a class; register an instance of it, {method.__name__}()"
    if not isinstance(method, Method):
        return f"an object of type {type(method).__name__} is not a method; derive its class from {Method.__module__}"
    kind = type(method).__name__
    for attribute in REQUIRED:
        if not hasattr(method, attribute):
            return f'the method {kind} has no "{attribute}"; set it in the class'
    if not isinstance(method.name, str) or not method.name:
        return f"the name of the method {kind} is {method.name!r}; give a word"
    if not isinstance(method.reference, Reference):
        return f'the reference of the method "{method.name}" is {method.reference!r}; give a Reference'
    if not isinstance(method.setting_type, type) or not issubclass(method.setting_type, Setting):
        found = method.setting_type
        return f'the setting_type of the method "{method.name}" is {found!r}; give a class derived from Setting'
    return _knob_fault(method) or _space_fault(method)


def _knob_fault(method: Method[Any]) -> str | None:
    knob, fields = method.size_knob, method.setting_type.model_fields
    if knob is None:
        return None
    if not isinstance(knob, SizeKnob):
        return f'the size_knob of the method "{method.name}" is {knob!r}; give a SizeKnob or None'
    if knob.field not in fields:
        known = did_you_mean(knob.field, fields)
        return f'the size knob of the method "{method.name}" is "{knob.field}", which is not one of its options{known}'
    return None


def _space_fault(method: Method[Any]) -> str | None:
    fields = {*method.setting_type.model_fields, UPDATE_STEP}
    seen: set[str] = set()
    for dimension in method.search_space:
        if not isinstance(dimension, Dimension):
            return f'the search_space of the method "{method.name}" has {dimension!r}; give Dimensions'
        where = f'the search space of the method "{method.name}"'
        if dimension.field not in fields:
            known = did_you_mean(dimension.field, fields)
            return f'{where} has "{dimension.field}", which is not one of its options{known}'
        if dimension.field in seen:
            return f'{where} has "{dimension.field}" twice'
        seen.add(dimension.field)
        if not 0 < dimension.low < dimension.high < math.inf:
            return f'{where} has "{dimension.field}" from {dimension.low:g} to {dimension.high:g}; give 0 < low < high'
    return None
