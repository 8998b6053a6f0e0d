"""The options that several commands share, as groups: each option is written once, and commands name the groups.

A group is a frozen dataclass whose fields are annotated as Typer parameters. `takes` gives a command the options of its
groups. The Python API builds the same groups, see `parbench.api`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from parbench.bench.budget import BudgetMode
from parbench.bench.cli.parsing import read_folder
from parbench.bench.train.protocol import Protocol

AUTO = "auto"
DEFAULT_STORE = Path("results")
DEFAULT_SILENCE_MINUTES = 60.0

Overwrite = Literal["never", "failed", "stale", "always"]
Engine = Literal["local", "ray", "slurm"]

Out = Annotated[
    Path, typer.Option("--out", help="Folder of the records.", show_default=True, parser=read_folder, metavar="DIR")
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Read data from here, one folder per task.", parser=read_folder, metavar="DIR")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the runs, and their cost where it is known, without running them.")
]

# Sections of a long help text.
_execution_option = partial(typer.Option, rich_help_panel="Execution")
_cluster_option = partial(typer.Option, rich_help_panel="Cluster")


def takes(*groups: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of groups; it is called with one instance of each group, before its own options."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(command, include_extras=True)
        own = list(inspect.signature(command).parameters.values())[len(groups) :]
        parameters = [*_parameters(groups), *(entry.replace(annotation=hints[entry.name]) for entry in own)]

        @wraps(command)
        def call(**values: Any) -> Any:
            made = [group(**{entry.name: values.pop(entry.name) for entry in fields(group)}) for group in groups]
            return command(*made, **values)

        keyword_only = [entry.replace(kind=inspect.Parameter.KEYWORD_ONLY) for entry in parameters]
        call.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
        call.__annotations__ = {entry.name: entry.annotation for entry in parameters}
        return call

    return decorate


def _parameters(groups: tuple[type, ...]) -> list[inspect.Parameter]:
    found = []
    for group in groups:
        hints = get_type_hints(group, include_extras=True)
        for entry in fields(group):
            default = inspect.Parameter.empty if entry.default is MISSING else entry.default
            kind = inspect.Parameter.KEYWORD_ONLY
            found.append(inspect.Parameter(entry.name, kind, default=default, annotation=hints[entry.name]))
    return found


@dataclass(frozen=True)
class ComparisonOptions:
    """What is compared, and where the records go."""

    methods: Annotated[
        str | None, typer.Option(help="Methods, comma-separated; default: the suite's.", metavar="A,B")
    ] = None
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks, task groups or YAML files, comma-separated; default: the suite's.", metavar="A,B"),
    ] = None
    suite: Annotated[str, typer.Option(help="auto, a suite's name, or a YAML file.")] = AUTO
    model: Annotated[
        str | None, typer.Option(help="Base model: a name, a hub id or a local folder; default: the suite's.")
    ] = None
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to report, such as 1,2,3 or 1-5; default: the suite's.", metavar="1,2,3")
    ] = None
    limit: Annotated[int | None, typer.Option(help="Maximum number of examples of each split.")] = None
    evaluation_limit: Annotated[
        int | None, typer.Option(help="Maximum number of examples of the selection split and of each reported subset.")
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METHOD.KEY=VALUE",
            help="A hyper-parameter, such as lora.r=4; train.KEY for the training, TASK.KEY for a task's option.",
        ),
    ] = None
    base_precision: Annotated[
        str | None,
        typer.Option(
            help="Of the frozen weights: float32, bfloat16, int8, nf4 (QLoRA's 4 bits); comma-separated. Default: the "
            "suite's.",
            metavar="A,B",
        ),
    ] = None
    out: Out = DEFAULT_STORE
    data_root: DataRoot = None
    budget: Annotated[
        str | None, typer.Option(help="Adapter parameters: 24000, 24k, 0.1%, match:lora(r=8), none; comma-separated.")
    ] = None
    budget_mode: Annotated[
        BudgetMode, typer.Option(help="pattern: fill a budget with fewer or unevenly sized layers.")
    ] = "uniform"


@dataclass(frozen=True)
class ScoringOptions:
    """How runs are trained and scored, beyond their hyper-parameters."""

    protocol: Annotated[
        Protocol | None,
        typer.Option(help="Rules of selection and reporting; paper:best_epoch picks the epoch on the reported split."),
    ] = None
    train_fraction: Annotated[
        str | None,
        typer.Option(help="Shares of the training split to train on, one run per share: the data-efficiency curve."),
    ] = None
    retention: Annotated[
        bool, typer.Option("--retention", help="Measure forgetting of general text (language models).")
    ] = False
    judge: Annotated[
        str | None, typer.Option(help="Judge of answers: MODEL@URL of an OpenAI-compatible endpoint, or local.")
    ] = None


@dataclass(frozen=True)
class WorkerOptions:
    """Where runs are executed, and how many at a time."""

    device: Annotated[
        str | None, _execution_option(help="cpu, cuda or cuda:N; default: an accelerator if there is one.")
    ] = None
    workers: Annotated[
        int | None,
        _execution_option(
            help="Simultaneous runs; default: one per accelerator, or one per core of the CPU. More share an "
            "accelerator where they are known to fit."
        ),
    ] = None


@dataclass(frozen=True)
class ProcessOptions(WorkerOptions):
    """How each run is executed."""

    isolate: Annotated[
        bool,
        _execution_option(
            help="One process per run, or all in this process: no limits, a crash ends all runs, and the memory of the "
            "process is known of the first run only."
        ),
    ] = True
    retries: Annotated[
        int, _execution_option(help="Retries after temporary failures: a killed process, a lost connection.")
    ] = 0


@dataclass(frozen=True)
class ExecutionOptions(ProcessOptions):
    """How reported runs are executed."""

    devices: Annotated[
        str | None, _execution_option(help="CUDA devices to distribute runs over, comma-separated.", metavar="0,1")
    ] = None
    time_limit: Annotated[float | None, _execution_option(help="Minutes per run; default: no limit.")] = None
    silence_limit: Annotated[
        float | None,
        _execution_option(help=f"Minutes a run may go without a step; default: {DEFAULT_SILENCE_MINUTES:g}."),
    ] = None
    memory_limit: Annotated[str | None, _execution_option(help="Memory per run's process, such as 8GiB.")] = None
    fail_fast: Annotated[bool, _execution_option("--fail-fast", help="Stop at the first failed run.")] = False
    deterministic: Annotated[
        bool, _execution_option("--deterministic", help="Refuse operations without a deterministic implementation.")
    ] = False
    report_to: Annotated[
        str | None,
        _execution_option(help="Experiment trackers, comma-separated: tensorboard, wandb, mlflow.", metavar="A,B"),
    ] = None


def _only_for(*engines: Engine, default: Any) -> Any:
    """Return the field of an option that only some engines take."""
    return field(default=default, metadata={"engines": engines})


@dataclass(frozen=True)
class ClusterOptions:
    """Which engine executes runs, and what it is asked for."""

    executor: Annotated[Engine, _cluster_option(help="This machine, a Ray cluster, or Slurm jobs.")] = "local"
    address: Annotated[str | None, _cluster_option(help="Ray: address of the cluster. Default: start a local one.")] = (
        _only_for("ray", default=None)
    )
    cpus_per_run: Annotated[int, _cluster_option(help="CPUs per run.")] = _only_for("ray", "slurm", default=1)
    gpus_per_run: Annotated[float | None, _cluster_option(help="GPUs per run: 0 or 1; with Ray also a fraction.")] = (
        _only_for("ray", "slurm", default=None)
    )
    partition: Annotated[str | None, _cluster_option(help="Slurm: partition.")] = _only_for("slurm", default=None)
    job_minutes: Annotated[
        int, _cluster_option(help="Slurm: time limit of a job, which is requeued when it is reached.")
    ] = _only_for("slurm", default=240)
    runs_per_job: Annotated[int, _cluster_option(help="Slurm: runs per job, one after the other.")] = _only_for(
        "slurm", default=1
    )


@dataclass(frozen=True)
class RerunOptions:
    """Which runs `bench run` does: those of claims, tuned first, repeated, or again."""

    claims: Annotated[
        str | None,
        typer.Option(
            help="Do exactly the runs that judging these claims takes: names of bench list claims or YAML files, "
            "comma-separated.",
            metavar="A,B",
        ),
    ] = None
    tuned: Annotated[bool, typer.Option("--tuned", help="Use the suite that bench tune wrote into --out.")] = False
    trials: Annotated[int | None, typer.Option(help="Tune every method first, with this number of trials each.")] = None
    judge_repeats: Annotated[int | None, typer.Option(help="Judgments per answer.")] = None
    noise_floor: Annotated[
        int | None,
        typer.Option(help="Repeat the first run this many times with the same seed, to measure the effect of chance."),
    ] = None
    overwrite: Annotated[
        Overwrite,
        _execution_option(help="Which existing records to re-run. Interrupted runs resume; with always they restart."),
    ] = "failed"
    dry_run: DryRun = False


def option_name(entry: Field[Any]) -> str:
    """Return how an option is written on the command line."""
    return f"--{entry.name.replace('_', '-')}"
