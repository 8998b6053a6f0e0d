"""Finds the tuners of the installed peft without importing peft."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.registry import Entry
from parbench.methods.from_peft.catalogue import KNOWN
from parbench.methods.from_peft.known import KnownTuner

if TYPE_CHECKING:
    from parbench.methods.base import Method


def discovered() -> Iterator[Entry[Method[Any]]]:
    """Yield an entry for every tuner of the installed peft, in peft's order."""
    for name in tuner_names():
        known = KNOWN.get(name, KnownTuner())
        title = known.reference.title if known.reference else "peft's own"
        summary = f"{title} (peft; {'cannot be compared' if known.refused else 'untuned'})"
        yield Entry(name, summary, __name__, partial(_load, name))


def tuner_names() -> list[str]:
    """Return the members of peft's `PeftType`, in lower case, read from its source: importing peft takes seconds.

    Raises:
        UserError: the installed version of peft does not have them in that file.
    """
    spec = importlib.util.find_spec("peft")
    if spec is None or spec.origin is None:
        return []
    source = Path(spec.origin).with_name("utils") / "peft_types.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "PeftType":
            return [
                member.value.value.lower()
                for member in node.body
                if isinstance(member, ast.Assign)
                and isinstance(member.value, ast.Constant)
                and isinstance(member.value.value, str)
            ]
    raise UserError(f"{source} has no class PeftType: this version of peft is too new; install an older one")


def _load(name: str) -> Method[Any]:
    from parbench.methods.from_peft.method import PeftMethod

    return PeftMethod(name, KNOWN.get(name, KnownTuner()))
