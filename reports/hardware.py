"""The machines that runs were done on, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pandas as pd

_PREFIX = "hardware/"
# What a description of a machine is made from; see `parbench.bench.util.environment.hardware`.
_DESCRIBED = ("accelerator", "cores", "cpu", "device", "memory")
# What says how a run was done on the machine, not which machine it was.
_USE = ("threads", "workers", "cuda")
_MOST = 4


def hardware_in_words(runs: pd.DataFrame) -> str:
    """Return the machines of some runs, such as ``2 cores of AMD EPYC, CPU only, 24 GiB of memory``.

    Machines that differ in their memory alone are described once, by the least memory of them. Of many machines the
    first are named and the rest are counted.

    Args:
        runs: the frame's runs.

    Returns:
        An empty text where nothing is recorded.
    """
    names = sorted(str(name) for name in runs.columns if str(name).startswith(_PREFIX))
    memories: dict[str, set[str]] = {}
    for values in runs[names].drop_duplicates().itertuples(index=False, name=None):
        pairs = zip(names, values, strict=True)
        known = {name.removeprefix(_PREFIX): str(value) for name, value in pairs if not pd.isna(value)}
        memory = known.pop("memory", "")
        words = ", ".join(_machine(known))
        if words or memory:
            memories.setdefault(words, set()).add(memory)
    machines = sorted(", ".join(filter(None, [words, _memory(found)])) for words, found in memories.items())
    more = len(machines) - _MOST
    return "; ".join([*machines[:_MOST], *([f"{more} more machine{'s' if more > 1 else ''}"] if more > 0 else [])])


def machine_in_words(hardware: Mapping[str, str]) -> str:
    """Return a machine in the same words, from what a record has of it."""
    return hardware_in_words(pd.DataFrame([{f"{_PREFIX}{name}": value for name, value in hardware.items()}]))


def _machine(known: Mapping[str, str]) -> Iterable[str]:
    """Yield the parts of a machine's description, without its memory."""
    if "accelerator" in known:
        yield known["accelerator"]
    if "cores" in known and "cpu" in known:
        yield f"{known['cores']} core{'' if known['cores'] == '1' else 's'} of {known['cpu']}"
    elif "cores" in known or "cpu" in known:
        yield known["cpu"] if "cpu" in known else f"{known['cores']} cores"
    if known.get("device") == "cpu":
        yield "CPU only"
    elif "device" in known and "accelerator" not in known:
        yield f"device {known['device']}"
    yield from (f"{name} {value}" for name, value in known.items() if name not in (*_DESCRIBED, *_USE))


def _memory(found: Iterable[str]) -> str:
    known = sorted(filter(None, found), key=lambda text: [float(part) for part in re.findall(r"[\d.]+", text)[:1]])
    if not known:
        return ""
    return f"{known[0]} of memory{' or more' if len(known) > 1 else ''}"
