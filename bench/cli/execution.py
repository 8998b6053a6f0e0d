"""How runs are done: the options that `bench run` and `bench tune` share, and the executor that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parbench.bench.cli.console import read_bytes, read_names
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    import torch

    from parbench.bench.execute.executor import Executor, RunOptions


class Overwrite(StrEnum):
    """Which runs that have a record are done again; ``stale`` also moves aside what the new records supersede."""

    NEVER = "never"
    FAILED = "failed"
    STALE = "stale"
    ALWAYS = "always"


class Engine(StrEnum):
    """What does the runs."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"


SILENT_MINUTES = 60.0

# Parts of a long help, each with columns of its own.
_run_option = partial(typer.Option, rich_help_panel="How the runs are done")
_cluster_option = partial(typer.Option, rich_help_panel="On a cluster")

EngineName = Annotated[Engine, _cluster_option("--executor", help="This machine, a Ray cluster, or jobs of Slurm.")]
Address = Annotated[
    str | None, _cluster_option(help="Ray: the cluster's; one on this machine alone is begun unless given.")
]
CpusPerRun = Annotated[int, _cluster_option(help="CPUs of each run.")]
GpusPerRun = Annotated[
    float | None, _cluster_option(help="GPUs of each run: 0 or 1, and with Ray also a share of one.")
]
Partition = Annotated[str | None, _cluster_option(help="Slurm: the name of its partition.")]
JobMinutes = Annotated[int, _cluster_option(help="Slurm: minutes of a job, which is queued again when they are over.")]
RunsPerJob = Annotated[int, _cluster_option(help="Slurm: runs of a job, done one after the other.")]
Redone = Annotated[
    Overwrite,
    _run_option(
        help="Runs that are done again though they have a record. What was cut off goes on; with always, anew."
    ),
]
Device = Annotated[str | None, _run_option(help="cpu, cuda or cuda:N; an accelerator if there is one, unless given.")]
Devices = Annotated[str | None, _run_option(help="CUDA devices to share the runs, by comma.", metavar="0,1")]
Workers = Annotated[
    int | None,
    _run_option(
        help="Simultaneous runs; default: one per accelerator, or one per core of the CPU. More share an accelerator "
        "where they are known to fit."
    ),
]
Isolate = Annotated[
    bool, _run_option(help="Each run in a process of its own, or all in this one (no limits, a crash ends all).")
]
TimeLimit = Annotated[float | None, _run_option(help="Minutes that a run may take; no limit unless given.")]
SilenceLimit = Annotated[
    float | None, _run_option(help=f"Minutes that a run may go without a step; {SILENT_MINUTES:g} unless given.")
]
MemoryLimit = Annotated[str | None, _run_option(help="Memory that a run's process may use, such as 8GiB.")]
Retries = Annotated[int, _run_option(help="Further tries after what may pass: a killed process, a lost connection.")]
FailFast = Annotated[bool, _run_option("--fail-fast", help="End all at the first run that fails.")]
Deterministic = Annotated[
    bool, _run_option("--deterministic", help="Refuse whatever has no deterministic implementation.")
]
ReportTo = Annotated[
    str | None,
    _run_option(help="Trackers of the training's progress, by comma: tensorboard, wandb, mlflow.", metavar="A,B"),
]


def _taken_by(*engines: Engine, option: str, default: Any) -> Any:
    """Return the field for an option that only some engines take."""
    return field(default=default, metadata={"option": option, "engines": engines})


@dataclass(frozen=True)
class Cluster:
    """What the user has asked a cluster for."""

    engine: Engine = Engine.LOCAL
    address: str | None = _taken_by(Engine.RAY, option="--address", default=None)
    cpus: int = _taken_by(Engine.RAY, Engine.SLURM, option="--cpus-per-run", default=1)
    gpus: float | None = _taken_by(Engine.RAY, Engine.SLURM, option="--gpus-per-run", default=None)
    partition: str | None = _taken_by(Engine.SLURM, option="--partition", default=None)
    minutes: int = _taken_by(Engine.SLURM, option="--job-minutes", default=240)
    runs_per_job: int = _taken_by(Engine.SLURM, option="--runs-per-job", default=1)

    def check(self) -> None:
        """Make sure that the engine takes what is given: an option without effect is a mistake.

        Raises:
            UserError: it does not.
        """
        for entry in fields(self):
            engines = entry.metadata.get("engines", Engine)
            if self.engine not in engines and getattr(self, entry.name) != entry.default:
                option = entry.metadata["option"]
                raise UserError(f"{option} goes with --executor {' or '.join(engines)}, not with {self.engine}")

    def executor(self, options: RunOptions, workers: int | None) -> Executor:
        """Return what does the runs there.

        Raises:
            UserError: the engine is not installed, or cannot give what is asked for.
        """
        from importlib.util import find_spec

        package = {Engine.RAY: "ray", Engine.SLURM: "submitit"}[self.engine]
        if find_spec(package) is None:
            install = f'pip install "parbench[{self.engine}]"'
            raise UserError(f"--executor {self.engine} needs the package {package}; install it with: {install}")
        if self.engine is Engine.RAY:
            from parbench.bench.execute.ray import RayExecutor

            return RayExecutor(self.address, self.cpus, self.gpus, workers, options)
        from parbench.bench.execute.slurm import SlurmExecutor
        from parbench.bench.execute.slurm_job import JobOptions

        if self.runs_per_job < 1:
            raise UserError(f"--runs-per-job is {self.runs_per_job}; give a number of at least 1")
        gpus = self.gpus or 0.0
        if not gpus.is_integer():
            raise UserError(f"--gpus-per-run is {gpus:g}; Slurm gives whole ones")
        job = JobOptions(partition=self.partition, minutes=self.minutes, cpus=self.cpus, gpus=int(gpus))
        return SlurmExecutor(job, self.runs_per_job, workers, options=options)


@dataclass(frozen=True)
class Execution:
    """What the user has asked for."""

    device: str | None = None
    devices: str | None = None
    workers: int | None = None
    isolate: bool = True
    minutes: float | None = None
    silent_minutes: float | None = None
    memory: str | None = None
    retries: int = 0
    fail_fast: bool = False
    deterministic: bool = False
    cluster: Cluster = field(default_factory=Cluster)
    report_to: str | None = None

    def executor(self) -> Executor:
        """Return what does the runs.

        Raises:
            UserError: a device or a tracker is not there, or options contradict each other.
        """
        from parbench.bench.execute.executor import RunOptions
        from parbench.bench.run.trackers import check_trackers
        from parbench.bench.util.environment import choose_device, use_deterministic_algorithms

        trackers = read_names(self.report_to, "--report-to") or ()
        check_trackers(trackers)
        self.cluster.check()
        silent_minutes = _minutes(self.silent_minutes, "--silence-limit")
        options = RunOptions(
            _minutes(self.minutes, "--time-limit"),
            SILENT_MINUTES if silent_minutes is None else silent_minutes,
            read_bytes(self.memory, "--memory-limit"),
            self._positive(self.retries, "--retries", least=0),
            self.fail_fast,
            self.deterministic,
            trackers,
        )
        if self.cluster.engine is not Engine.LOCAL:
            if self.device is not None or self.devices is not None or not self.isolate:
                raise UserError(
                    f"--executor {self.cluster.engine} chooses devices and processes itself; leave them out"
                )
            workers = None if self.workers is None else self._positive(self.workers, "--workers")
            return self.cluster.executor(options, workers)
        devices = [choose_device(name) for name in self._devices()]
        workers = self._positive(self.workers if self.workers is not None else self._usual(devices), "--workers")
        if self.isolate:
            from parbench.bench.execute.local import LocalExecutor, workers_on

            slots = workers_on([str(device) for device in devices], workers)
            on_cpu = devices[0].type == "cpu"
            return LocalExecutor(slots, options if on_cpu else replace(options, threads=_threads(len(slots))))
        limited = [self.minutes, self.silent_minutes, self.memory]
        if workers > 1 or any(given is not None for given in limited):
            raise UserError(
                "--workers, --time-limit, --silence-limit and --memory-limit need processes; leave --no-isolate out"
            )
        from parbench.bench.execute.in_process import InProcessExecutor

        if self.deterministic:
            use_deterministic_algorithms()
        return InProcessExecutor(devices[0], options)

    def _usual(self, devices: list[torch.device]) -> int:
        """Return the number of simultaneous runs: one per accelerator, or one per core of the CPU."""
        from parbench.bench.execute.cpu_slots import own_cores

        return len(own_cores()) if self.isolate and devices[0].type == "cpu" else len(devices)

    def _devices(self) -> list[str | None]:
        if self.devices is None:
            return [self.device]
        if self.device is not None:
            raise UserError("--device names one and --devices several; give one of the two")
        return [f"cuda:{name.removeprefix('cuda:')}" for name in read_names(self.devices, "--devices") or ()]

    @staticmethod
    def _positive(value: int, option: str, least: int = 1) -> int:
        if value < least:
            raise UserError(f"{option} is {value}; give a number of at least {least}")
        return value


def _minutes(value: float | None, option: str) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UserError(f"{option} is {value:g} minutes; give more than 0")
    return value


def _threads(workers: int) -> int | None:
    """Return torch's threads for each of several processes; more of them than cores slow all down."""
    import torch

    return None if workers == 1 else max(1, torch.get_num_threads() // workers)
