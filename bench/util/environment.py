"""The machine and the software of a run: versions, hardware, device and the state of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.bench.util.process_environment import DETERMINISTIC_CUBLAS

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "parbench",
    "torch",
    "transformers",
    "peft",
    "datasets",
    "accelerate",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "scipy",
    "bitsandbytes",
)


@dataclass(frozen=True)
class GitState:
    """The commit of this project's checkout, if it is one."""

    commit: str | None
    dirty: bool | None


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that determine results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict[str, str]:
    """Return a description of the device and of the machine."""
    import psutil
    import torch

    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    found = {"device": str(device), "cpu": _cpu(), "cores": str(os.cpu_count()), "memory": memory}
    found["threads"] = str(torch.get_num_threads())
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["accelerator"] = f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"
        found["cuda"] = str(torch.version.cuda)
    return found


@cache
def git_state() -> GitState:
    """Return the commit of the checkout that this package runs from, and whether it has uncommitted changes."""
    here = Path(__file__).resolve().parent
    commit = _git(here, "rev-parse", "HEAD")
    status = _git(here, "status", "--porcelain")
    return GitState(commit, bool(status) if commit and status is not None else None)


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """Return the command line, as it can be typed again."""
    import shlex

    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def choose_device(wanted: str | None) -> torch.device:
    """Return the device to train on: ``wanted``, or the first accelerator, or the CPU.

    An accelerator always has a number: libraries understand ``cuda`` as all devices.

    Raises:
        UserError: the device does not exist here.
    """
    import torch

    if wanted is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f'"{wanted}" is not a device; use cpu, cuda or cuda:N') from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f'the device "{wanted}" is not supported; use cpu, cuda or cuda:N')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f'there is no device "{wanted}" here ({torch.cuda.device_count()} CUDA devices); use --device cpu'
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def use_deterministic_algorithms() -> None:
    """Make torch raise an error for operations without a deterministic implementation, in this process."""
    import torch

    # cuBLAS reads this setting when it is first used.
    os.environ.update(DETERMINISTIC_CUBLAS)
    torch.use_deterministic_algorithms(True)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of libraries, so that there is one line per run."""
    import warnings

    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
