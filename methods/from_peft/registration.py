"""Registers a further tuner with peft, so that it is used like peft's own."""

from __future__ import annotations

from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method


def ensure_peft_type(name: str) -> PeftType:
    """Return ``PeftType[NAME]``, adding the member if needed: `register_peft_method` requires it."""
    member = name.upper()
    if member not in PeftType.__members__:
        from aenum import extend_enum

        extend_enum(PeftType, member, member)
    return PeftType[member]


def register_tuner(name: str, config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Register a tuner; does nothing if it is registered already, as after a reload.

    Args:
        name: lower-case method name, e.g. ``"loca"``; the state-dict prefix is ``name + "_"``.
        config_cls: the `PeftConfig` of the method.
        model_cls: the `BaseTuner` of the method, whose ``prefix`` is ``name + "_"``.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    peft_type = ensure_peft_type(name)
    if peft_type not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=name, config_cls=config_cls, model_cls=model_cls)
