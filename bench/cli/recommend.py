"""`bench recommend`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parbench.bench.cli.console import announce, announce_loading, counted, end_incomplete, open_console, say
from parbench.bench.cli.detect import print_needed
from parbench.bench.cli.forecast_table import print_known_forecast
from parbench.bench.cli.grid import Grid
from parbench.bench.cli.options import DEFAULT_STORE, ComparisonOptions, DataRoot, WorkerOptions, takes
from parbench.bench.cli.parsing import read_bytes, read_folder, read_names, read_positive
from parbench.bench.cli.predicted_memory import print_predicted_of_runs
from parbench.bench.cli.session import open_session, read_overrides
from parbench.bench.profile import MOST_EXAMPLES
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from parbench.bench.models.base_model import BaseModel
    from parbench.bench.store.store import Store
    from parbench.reports.recommend.costs import TargetCosts
    from parbench.reports.recommend.evidence import Known
    from parbench.reports.recommend.options import Option
    from parbench.reports.recommend.quality import Quality
    from parbench.reports.recommend.words import Words
    from parbench.tasks.base import Task

# Tried where nothing is known: the methods that most others are compared with, and what they must beat.
FIRST_METHODS = "lora,loca,dora,fourierft,vera,linear_probe"
# Fewer have no interval.
FIRST_SEEDS = "1,2,3"
# Points of a difference that decides.
_DIFFERENCE = 2.0


@dataclass(frozen=True)
class RecommendOptions:
    """What is asked, and what is known."""

    model: Annotated[str | None, typer.Option(help="Base model: a name, a hub id or a local folder.")] = None
    task: Annotated[str | None, typer.Option(help="Name of the task.")] = None
    data: Annotated[
        Path | None,
        typer.Option(help="In place of --task: a YAML file that describes your data.", parser=read_folder),
    ] = None
    memory: Annotated[str | None, typer.Option(help="Memory that training may take, such as 16GiB.")] = None
    engine: Annotated[
        str | None, typer.Option(help="Say how this serving engine could serve the methods, such as vllm.")
    ] = None
    store: Annotated[
        list[Path] | None,
        typer.Option(
            "--store",
            help="Folder of records; repeat for several. Default: results.",
            parser=read_folder,
            metavar="DIR",
        ),
    ] = None
    methods: Annotated[
        str | None,
        typer.Option(help="Only these methods, comma-separated; default: those of the records.", metavar="A,B"),
    ] = None
    batch: Annotated[int | None, typer.Option(help="Examples per step; default: those of the records.")] = None
    seq: Annotated[int | None, typer.Option(help="Tokens per example; default: the most of the records.")] = None
    validate: Annotated[
        bool,
        typer.Option(
            "--validate", help="Leave out each task of the records in turn, and show what following would have cost."
        ),
    ] = False

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UserError: they do, or one is missing or out of range.
        """
        asked = (self.model, self.task, self.data, self.memory, self.engine, self.methods, self.batch, self.seq)
        if self.validate:
            if any(value is not None for value in asked):
                raise UserError("--validate takes no other option than --store")
            return
        if self.model is None:
            raise UserError("which base model? give --model, and --task or --data")
        if (self.task is None) == (self.data is None):
            raise UserError("give one of --task, a task's name, and --data, a YAML file that describes your data")
        if self.data is not None and self.data.suffix not in (".yaml", ".yml"):
            raise UserError(
                f'--data is "{self.data}"; give a YAML file that describes your data, such as: name: my/reviews, kind: '
                "classification, data: ..., texts: ..., labels: ...; bench task check reads the same"
            )
        read_positive(self.batch, "--batch", most=MOST_EXAMPLES)
        read_positive(self.seq, "--seq")


@takes(RecommendOptions, WorkerOptions)
def recommend(asked: RecommendOptions, workers: WorkerOptions, data_root: DataRoot = None) -> None:
    """Recommend methods for a base model and a task, from records, with what each line is known from.

    \b
    Examples:
    bench recommend --model minilm-l6 --task glue/sst2 --memory 16GiB --store results/mine
    bench recommend --model roberta-base --data my_reviews.yaml --store results/mine --store results/others
    bench recommend --validate --store results/mine
    """
    asked.check()
    limit = read_bytes(asked.memory, "--memory")
    announce_loading()
    from parbench.bench.util.environment import quiet_libraries
    from parbench.reports.recommend.evidence import read_evidence
    from parbench.reports.recommend.stores import asked_stores, published_stores

    quiet_libraries()
    console = open_console()
    if asked.engine is not None:
        from parbench.reports.recommend.serving import find_engine

        find_engine(asked.engine)
    target = None if asked.validate else _target(asked)
    stores = [*asked_stores(asked.store or [], DEFAULT_STORE), *published_stores()]
    for store in stores:
        announce(f"reading {store.root}")
    known = read_evidence(stores)
    for note in known.notes:
        say(note, console)
    if target is None:
        _print_validation(known, console)
    elif (found := _quality(asked, target, known)) is None:
        _print_unknown(asked, target, limit, data_root, workers, console)
    else:
        _print_recommendation(asked, target, found, limit, stores, data_root, workers, console)
    if known.left_out:
        end_incomplete("left out of the evidence", known.left_out)


@dataclass(frozen=True)
class _Target:
    """The base model and the task that are asked about."""

    model: BaseModel
    task: Task
    task_name: str


def _target(asked: RecommendOptions) -> _Target:
    from parbench.bench.cli.available_model import find_available_model
    from parbench.bench.models.kind import takes as model_takes
    from parbench.tasks.testing.inspection import task_to_check

    name = str(asked.task if asked.data is None else asked.data)
    task = task_to_check(name)
    model = find_available_model(str(asked.model), weights=False)
    if not model_takes(model.config(), task.head):
        raise UserError(f"{model.name} cannot have the head that {task.name} needs; give another --model")
    return _Target(model, task, name)


def _quality(asked: RecommendOptions, target: _Target, known: Known) -> Quality | None:
    from parbench.reports.recommend.evidence import of_methods
    from parbench.reports.recommend.quality import quality

    evidence = known.evidence
    if names := read_names(asked.methods, "--methods"):
        evidence = of_methods(evidence, names)
    return quality(evidence, target.task.name, target.model.name, target.task.kind)


def _print_recommendation(
    asked: RecommendOptions,
    target: _Target,
    found: Quality,
    limit: int | None,
    stores: list[Store],
    data_root: Path | None,
    workers: WorkerOptions,
    console: Console,
) -> None:
    from parbench.bench.util.environment import choose_device, hardware
    from parbench.bench.util.process_memory import resident_bytes
    from parbench.reports.hardware import machine_in_words
    from parbench.reports.profile.costs import read_profiles
    from parbench.reports.recommend.costs import TargetCosts, steps
    from parbench.reports.recommend.options import baseline_of, make_options, short_list
    from parbench.reports.recommend.words import in_words

    baseline, device = baseline_of(found.rows), choose_device(workers.device)
    profiles = [profile for store in stores for profile in read_profiles((), store)]
    costs = TargetCosts(
        target.model,
        str(asked.model),
        target.task.head,
        asked.batch,
        asked.seq,
        on_device=device.type != "cpu",
        start_bytes=resident_bytes(),
        steps=steps(found, baseline, target.model.name, target.task.name, profiles),
    )
    announce(f"predicting the memory of {counted(len(found.rows), 'method')} with {target.model.name}")
    chosen = short_list(make_options(found, costs.of), found, limit)
    title = f"{target.task.name} with {target.model.name}"
    if not chosen.options and limit is not None:
        say(f"{title}: no method that is known fits into {asked.memory}", console)
        _print_fewer_bits(min((left.option for left in chosen.left), key=_memory_of), costs, limit, console)
    _print_words(in_words(found, chosen, baseline, machine_in_words(hardware(device))), title, console)
    if asked.engine is not None:
        from parbench.reports.recommend.serving import find_engine, in_engine

        for sentence in in_engine(find_engine(asked.engine), chosen.options, target.model, target.task.head):
            say(sentence, console)
    if chosen.options:
        _print_command(asked, target, found, chosen.options[0], data_root, console)


def _print_command(
    asked: RecommendOptions,
    target: _Target,
    found: Quality,
    option: Option,
    data_root: Path | None,
    console: Console,
) -> None:
    from parbench.bench.models.kind import positions
    from parbench.reports.recommend.command import Asked, begin

    command = begin(
        option,
        found,
        Asked(
            target.task_name,
            str(asked.model),
            asked.batch,
            asked.seq,
            positions(target.model.config()) if target.task.modality.has_text else None,
            data_root,
            tuple(asked.store or ()),
        ),
    )
    say(f"Begin with: {shlex.join(command.words)}", console)
    if command.remark:
        say(command.remark, console)


def _memory_of(option: Option) -> float:
    return option.costs.memory.value if option.costs.memory else 0.0


def _print_fewer_bits(option: Option, costs: TargetCosts, limit: int, console: Console) -> None:
    """Print what the smallest of the methods takes on base weights of fewer bits."""
    from parbench.bench.util.base_precision import FLOAT32, PRECISIONS
    from parbench.reports.recommend.words import in_fewer_bits

    sizes = {
        precision: costs.memory(option.method, option.setting, option.training, precision)
        for precision in PRECISIONS
        if precision not in (FLOAT32, option.precision)
    }
    say(in_fewer_bits(option, sizes, limit), console)


def _print_words(words: Words, title: str, console: Console) -> None:
    table = words.table
    if table.rows:
        console.print(Grid(table.head, table.rows, title=title))
    for sentence in words.sentences:
        say(sentence, console)


def _print_validation(known: Known, console: Console) -> None:
    from parbench.reports.recommend.validation import validate
    from parbench.reports.recommend.words import validation_in_words

    _print_words(validation_in_words(validate(known.evidence)), "each task recommended for from the others", console)


def _shorter(asked: RecommendOptions, target: _Target) -> list[str]:
    """Return the length of the examples, where it is asked for or the base model takes no more."""
    from parbench.bench.models.kind import positions
    from parbench.bench.train.settings import TrainingSettings
    from parbench.tasks.base import Modality

    if target.task.modality is not Modality.TEXT:
        return []
    usual = asked.seq or int(TrainingSettings.model_fields["max_length"].default)
    most = positions(target.model.config()) or usual
    return [f"train.max_length={min(usual, most)}"] if asked.seq or most < usual else []


def _print_unknown(
    asked: RecommendOptions,
    target: _Target,
    limit: int | None,
    data_root: Path | None,
    workers: WorkerOptions,
    console: Console,
) -> None:
    """Print that nothing is known, and the smallest set of runs that would tell, with its cost where it is known."""
    say(
        f"There is nothing to recommend from: no two methods were run on {target.task.name} or on another task. The "
        "smallest set of runs that would tell:",
        console,
    )
    sets = _shorter(asked, target)
    comparison = ComparisonOptions(
        sets=sets,
        methods=asked.methods or FIRST_METHODS,
        tasks=target.task_name,
        model=asked.model,
        seeds=FIRST_SEEDS,
        data_root=data_root,
        out=(asked.store or [DEFAULT_STORE])[0],
    )
    words = ["bench", "run", "--methods", str(comparison.methods), "--tasks", target.task_name]
    words += ["--model", str(asked.model), "--seeds", FIRST_SEEDS, "--out", str(comparison.out)]
    words += [part for one in sets for part in ("--set", one)]
    if data_root is not None:
        words += ["--data-root", str(data_root)]
    say(shlex.join(words), console)
    session = open_session(comparison, read_overrides(comparison), workers)
    plan = session.plan()
    print_predicted_of_runs(plan.runs, str(asked.model), limit, console)
    print_needed(session, _DIFFERENCE, plan.runs)
    print_known_forecast(plan.runs, session.store, session.executor, console)
