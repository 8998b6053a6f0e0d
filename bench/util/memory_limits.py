"""How much memory this process may use, and whether the kernel has ended processes for lack of it.

A container's limit is that of its control group (cgroup), version 1 or 2; without one, it is the machine's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

PROC = Path("/proc")
_CGROUPS = PROC / "self" / "cgroup"
_MOUNTS = PROC / "self" / "mountinfo"


def total_memory() -> int:
    """Return the bytes of memory that processes here may use together: the least limit of all groups around them."""
    limits = (limit for folder, version in _groups() if (limit := _limit(folder, version)) is not None)
    return min([psutil.virtual_memory().total, *limits])


def available_memory() -> int:
    """Return the bytes that may still be used without swapping, also under the limits of the groups around."""
    left = [psutil.virtual_memory().available]
    for folder, version in _groups():
        limit = _limit(folder, version)
        if limit is not None:
            left.append(max(0, limit - _used(folder, version)))
    return min(left)


def oom_kills() -> int:
    """Return how many processes the kernel has ended for lack of memory, as far as it counts them.

    Counted is this process's control group. The root of version 2 has no counter; there it is the machine's.
    """
    for folder, version in _groups():
        found = _entry(folder / ("memory.events" if version == 2 else "memory.oom_control"), "oom_kill")
        if found is not None:
            return found
    return _entry(PROC / "vmstat", "oom_kill") or 0


def _groups() -> Iterator[tuple[Path, int]]:
    """Yield the folders of the memory control groups that this process is in, the innermost first, with the version."""
    try:
        lines = _CGROUPS.read_text(encoding="utf-8").splitlines()
        mounts = [line.split() for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):  # not Linux, or hidden
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = 1 if "memory" in controllers.split(",") else 2 if not controllers else 0
        for mount in mounts:
            if version and _is_mount_of(mount, version):
                yield from ((folder, version) for folder in _upwards(path, root=mount[3], point=Path(mount[4])))


def _is_mount_of(mount: list[str], version: int) -> bool:
    """Return whether a line of mountinfo is of the memory controller: after " - " come type, source and options."""
    kind, _, options = mount[mount.index("-") + 1 :][:3]
    return kind == "cgroup2" if version == 2 else kind == "cgroup" and "memory" in options.split(",")


def _upwards(path: str, root: str, point: Path) -> Iterator[Path]:
    """Yield the folders of a group and of those around it, as far as the mount shows them.

    Args:
        path: of the group, in the hierarchy.
        root: the group that the mount shows at its top.
        point: where it is mounted.
    """
    inside = path.removeprefix(root) if root != "/" else path
    folder = point / inside.strip("/")
    if ".." in folder.parts or not folder.is_dir():  # outside of what a container sees
        folder = point
    yield folder
    while folder != point:
        folder = folder.parent
        yield folder


def _limit(folder: Path, version: int) -> int | None:
    text = _text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
    # Version 1 writes "no limit" as a number beyond any memory.
    return int(text) if text is not None and text.isdecimal() and int(text) < 2**60 else None


def _used(folder: Path, version: int) -> int:
    """Return the bytes in use that dropping files from the page cache would not release."""
    text = _text(folder / ("memory.current" if version == 2 else "memory.usage_in_bytes"))
    cached = _entry(folder / "memory.stat", "inactive_file" if version == 2 else "total_inactive_file")
    return max(0, int(text or 0) - (cached or 0))


def _entry(path: Path, name: str) -> int | None:
    """Return a number of a file with a name and a number per line, ``None`` where it is missing."""
    for line in (_text(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
