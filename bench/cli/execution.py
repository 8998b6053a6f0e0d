"""The executor that the options ask for."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from parbench.bench.cli.console import announce_loading
from parbench.bench.cli.options import (
    DEFAULT_SILENCE_MINUTES,
    ClusterOptions,
    ExecutionOptions,
    ProcessOptions,
    WorkerOptions,
    option_name,
)
from parbench.bench.cli.parsing import MOST_PLANNED, read_bytes, read_names, read_positive
from parbench.bench.util.errors import UserError
from parbench.bench.util.process_environment import worker_server

if TYPE_CHECKING:
    import torch

    from parbench.bench.execute.executor import Executor, RunOptions

_PACKAGES = {"ray": "ray", "slurm": "submitit"}


def start_loading(options: ProcessOptions, cluster: ClusterOptions | None = None, dry_run: bool = False) -> None:
    """Announce the import of the large libraries, which takes seconds, unless it is done.

    The server that runs are forked from imports them as well: where there is a core for it, it begins at the same time.
    """
    due = announce_loading()
    here = cluster is None or cluster.executor == "local"
    if due and here and options.isolate and not dry_run and len(os.sched_getaffinity(0)) > 1:
        worker_server()


def make_executor(options: WorkerOptions, cluster: ClusterOptions | None = None) -> Executor:
    """Return what executes the runs.

    Raises:
        UserError: a device, a tracker or an engine is not available, or options contradict each other.
    """
    from parbench.bench.run.trackers import check_trackers

    execution = options if isinstance(options, ExecutionOptions) else ExecutionOptions(**asdict(options))
    cluster = cluster or ClusterOptions()
    trackers = read_names(execution.report_to, "--report-to") or ()
    check_trackers(trackers)
    _check_engine(cluster)
    run_options = _run_options(execution, trackers)
    if cluster.executor == "local":
        return _local_executor(execution, run_options)
    if execution.device is not None or execution.devices is not None or not execution.isolate:
        raise UserError(
            f"--executor {cluster.executor} chooses devices and processes itself; leave --device, --devices and "
            "--no-isolate out"
        )
    return _cluster_executor(execution, cluster, run_options)


def _check_engine(cluster: ClusterOptions) -> None:
    """Refuse an option that has no effect with the engine chosen."""
    for entry in fields(cluster):
        engines = entry.metadata.get("engines")
        if engines and cluster.executor not in engines and getattr(cluster, entry.name) != entry.default:
            wanted = " or ".join(engines)
            raise UserError(f"{option_name(entry)} goes with --executor {wanted}, not with {cluster.executor}")


def _run_options(execution: ExecutionOptions, trackers: tuple[str, ...]) -> RunOptions:
    from parbench.bench.execute.executor import RunOptions

    silence = _minutes(execution.silence_limit, "--silence-limit")
    read_positive(execution.retries, "--retries", least=0)
    return RunOptions(
        minutes=_minutes(execution.time_limit, "--time-limit"),
        silent_minutes=DEFAULT_SILENCE_MINUTES if silence is None else silence,
        memory_bytes=read_bytes(execution.memory_limit, "--memory-limit"),
        retries=execution.retries,
        fail_fast=execution.fail_fast,
        deterministic=execution.deterministic,
        trackers=trackers,
    )


def _local_executor(execution: ExecutionOptions, options: RunOptions) -> Executor:
    from parbench.bench.util.environment import choose_device, use_deterministic_algorithms

    devices = [choose_device(name) for name in _device_names(execution)]
    workers = read_positive(execution.workers, "--workers", most=MOST_PLANNED) or _default_workers(execution, devices)
    if execution.isolate:
        from parbench.bench.execute.local import LocalExecutor, workers_on

        slots = workers_on([str(device) for device in devices], workers)
        on_cpu = devices[0].type == "cpu"
        return LocalExecutor(slots, options if on_cpu else replace(options, threads=_threads(len(slots))))
    limited = (execution.time_limit, execution.silence_limit, execution.memory_limit)
    if workers > 1 or any(given is not None for given in limited):
        raise UserError(
            "--workers, --time-limit, --silence-limit and --memory-limit need processes; leave --no-isolate out"
        )
    from parbench.bench.execute.in_process import InProcessExecutor

    if execution.deterministic:
        use_deterministic_algorithms()
    return InProcessExecutor(devices[0], options)


def _default_workers(execution: ExecutionOptions, devices: list[torch.device]) -> int:
    """Return the number of simultaneous runs: one per accelerator, or one per core of the CPU."""
    from parbench.bench.execute.cpu_slots import own_cores

    return len(own_cores()) if execution.isolate and devices[0].type == "cpu" else len(devices)


def _cluster_executor(execution: ExecutionOptions, cluster: ClusterOptions, options: RunOptions) -> Executor:
    engine, workers = cluster.executor, read_positive(execution.workers, "--workers", most=MOST_PLANNED)
    if find_spec(_PACKAGES[engine]) is None:
        install = f'pip install "parbench[{engine}]"'
        raise UserError(f"--executor {engine} needs the package {_PACKAGES[engine]}; install it with: {install}")
    cpus, gpus = cluster.cpus_per_run, cluster.gpus_per_run
    if engine == "ray":
        from parbench.bench.execute.ray import RayExecutor

        return RayExecutor(cluster.address, cpus, gpus, workers, options)
    from parbench.bench.execute.slurm import SlurmExecutor
    from parbench.bench.execute.slurm_job import JobOptions

    read_positive(cluster.runs_per_job, "--runs-per-job")
    if not (gpus or 0.0).is_integer():
        raise UserError(f"--gpus-per-run is {gpus:g}; Slurm allocates whole GPUs")
    job = JobOptions(partition=cluster.partition, minutes=cluster.job_minutes, cpus=cpus, gpus=int(gpus or 0))
    return SlurmExecutor(job, cluster.runs_per_job, workers, options=options)


def _device_names(execution: ExecutionOptions) -> list[str | None]:
    if execution.devices is None:
        return [execution.device]
    if execution.device is not None:
        raise UserError("--device names one device and --devices several; give one of the two")
    return [f"cuda:{name.removeprefix('cuda:')}" for name in read_names(execution.devices, "--devices") or ()]


def _minutes(value: float | None, option: str) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UserError(f"{option} is {value:g} minutes; give more than 0")
    return value


def _threads(workers: int) -> int | None:
    """Return the torch threads of each of several processes: more threads than cores slow all of them down."""
    import torch

    return None if workers == 1 else max(1, torch.get_num_threads() // workers)
