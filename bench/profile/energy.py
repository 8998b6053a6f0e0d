"""Reads the accelerator's driver: the energy used, and other processes on the device."""

from __future__ import annotations

import os
import subprocess
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch


class Meter:
    """Reads the device's energy counter before and after a block, whose work must be finished at its end.

    Attributes:
        joules: energy used in the block; ``None`` where there is no counter: on a CPU, without the extra ``energy``, on
            a device older than Volta. `obstacle` returns the reason.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: int | None = None
        self.joules: float | None = None

    def __enter__(self) -> Self:
        self._before = _millijoules(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        after = _millijoules(self._device)
        if self._before is not None and after is not None:
            self.joules = (after - self._before) / 1e3


def obstacle(device: torch.device) -> str | None:
    """Return why a device's energy cannot be read, as a sentence; ``None`` if it can, or if it is not from NVIDIA.

    On a CPU nothing is missing that could be installed.
    """
    import torch

    if device.type != "cuda" or torch.version.hip is not None or _millijoules(device) is not None:
        return None
    if find_spec("pynvml") is None:
        return 'no joules without the package nvidia-ml-py; install it with: pip install "parbench[energy]"'
    return "no joules: the driver does not report the energy of this device"


def other_processes(device: torch.device) -> list[int] | None:
    """Return the processes that are computing on a CUDA device; ``None`` if this cannot be found out.

    To be called while no process of ours uses the device: inside a container, ours have other process ids.
    """
    nvml = _nvml()
    if nvml is not None:
        try:
            found = nvml.nvmlDeviceGetComputeRunningProcesses(_handle(nvml, device))
        except nvml.NVMLError:
            return None
        return [int(process.pid) for process in found]
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--id={_driver_name(device)}", "--query-compute-apps=pid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [int(pid) for pid in done.stdout.split() if pid.isdecimal()] if done.returncode == 0 else None


def _millijoules(device: torch.device) -> int | None:
    nvml = _nvml() if device.type == "cuda" else None
    if nvml is None:
        return None
    try:
        return int(nvml.nvmlDeviceGetTotalEnergyConsumption(_handle(nvml, device)))
    except nvml.NVMLError:
        return None


def _nvml() -> Any | None:
    """Return NVML, initialised, if its package (``nvidia-ml-py``, the extra ``energy``) and a driver are installed."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _handle(nvml: Any, device: torch.device) -> Any:
    name = _driver_name(device)
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else nvml.nvmlDeviceGetHandleByUUID(name)


def _driver_name(device: torch.device) -> str:
    """Return the index or UUID of a device in the driver's numbering.

    torch is not asked, because it would open the device in this process. On a machine with different devices the
    driver counts as CUDA does only under ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
    """
    index = device.index or 0
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[index] if index < len(visible) else str(index)
