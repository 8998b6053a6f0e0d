"""`bench profile`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from parbench.bench.cli.available_model import find_available_model
from parbench.bench.cli.console import announce_loading, end_incomplete, open_console, say
from parbench.bench.cli.options import takes
from parbench.bench.cli.parsing import (
    read_bytes,
    read_folder,
    read_names,
    read_positive,
    read_seeds,
    read_share,
)
from parbench.bench.profile import MOST_EXAMPLES
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from parbench.bench.profile.result import Profile
    from parbench.bench.profile.workload import Candidate, Workload


DtypeOption = Literal["float32", "bf16", "int8", "nf4"]


@dataclass(frozen=True)
class WorkloadOptions:
    """What is measured: a base model, and the shape of its batches."""

    model: Annotated[str, typer.Option(help="Base model: a name, a hub id or a local folder.")]
    batch: Annotated[int, typer.Option(help="Examples per step.")] = 32
    batches: Annotated[
        str | None,
        typer.Option(help="Several batch sizes, for the curves of memory and time.", metavar="1,2,4"),
    ] = None
    seq: Annotated[int, typer.Option(help="Tokens per example.")] = 128
    dtype: Annotated[
        DtypeOption, typer.Option(help="Of the base weights; bf16 runs under autocast, int8 and nf4 are bitsandbytes'.")
    ] = "float32"
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Build the architecture only; nothing is downloaded.")
    ] = False
    new_tokens: Annotated[int, typer.Option(help="Tokens generated after each prompt (language models).")] = 16
    padding: Annotated[float, typer.Option(help="Mean share of padding tokens in a batch, up to 0.5.")] = 0.0
    system_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            help="Length of the system prompt for methods that read one beside each example (lora_gen); default: 200. "
            "Other methods get none."
        ),
    ] = None
    at: Annotated[float, typer.Option(help="Progress of the training, from 0 to 1: some methods have phases.")] = 0.4
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: an accelerator if any.")] = None

    def check(self) -> None:
        """Refuse numbers out of range.

        Raises:
            UserError: a number is out of range.
        """
        read_positive(self.batch, "--batch", most=MOST_EXAMPLES)
        read_positive(self.seq, "--seq")
        read_positive(self.new_tokens, "--new-tokens")
        read_positive(self.system_prompt_tokens, "--system-prompt-tokens")
        read_share(self.padding, 0.5, "--padding")
        read_share(self.at, 1.0, "--at")

    def batch_sizes(self) -> tuple[int, ...]:
        """Return the batch sizes to measure.

        Raises:
            UserError: one is not a number from 1 to `MOST_EXAMPLES`.
        """
        sizes = read_seeds(self.batches, "--batches") or (self.batch,)
        for size in sizes:
            read_positive(size, f'a size of "--batches {self.batches}"', most=MOST_EXAMPLES)
        return sizes

    def workload(self, device: str) -> Workload:
        """Return the workload of the first batch size."""
        from parbench.bench.profile.workload import SYSTEM_PROMPT_TOKENS, Workload

        return Workload(
            base_model=self.model,
            batch_size=self.batch_sizes()[0],
            length=self.seq,
            device=device,
            dtype="bfloat16" if self.dtype == "bf16" else self.dtype,
            random_weights=self.random_weights,
            padding=self.padding,
            at=self.at,
            system_prompt_tokens=self.system_prompt_tokens or SYSTEM_PROMPT_TOKENS,
        )


@dataclass(frozen=True)
class MeasurementOptions:
    """How it is measured, and where the numbers go."""

    rounds: Annotated[int, typer.Option(help="Measurements of each method, each in a new process.")] = 3
    steps: Annotated[int, typer.Option(help="Timed repetitions per measurement.")] = 10
    warm_up: Annotated[int, typer.Option(help="Untimed repetitions before them.")] = 3
    max_batch: Annotated[bool, typer.Option("--max-batch", help="Search the largest batch that fits.")] = False
    memory_limit: Annotated[
        str | None,
        typer.Option(help="Memory of a measuring process, such as 8GiB; default on the CPU: 90 % of what is free."),
    ] = None
    predict: Annotated[
        bool,
        typer.Option("--predict", help="Predict the memory of training instead of measuring; nothing is built."),
    ] = False
    trace: Annotated[bool, typer.Option("--trace", help="Write a torch.profiler trace of one step per method.")] = False
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for profile.json, .csv, .md and curves.", parser=read_folder, metavar="DIR"),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Measure although other processes use the device.")] = False

    def check(self) -> None:
        """Refuse numbers out of range, and a trace without a place for it.

        Raises:
            UserError: an option cannot be used.
        """
        read_positive(self.rounds, "--rounds")
        read_positive(self.steps, "--steps")
        read_positive(self.warm_up, "--warm-up", least=0)
        if self.predict and (self.trace or self.max_batch or self.out is not None):
            raise UserError("--predict measures nothing: leave out --trace, --max-batch and --out")
        if self.trace and self.out is None:
            raise UserError("--trace writes files; give a folder with --out")

    def prepared_folder(self) -> Path | None:
        """Create the folders to write to, before minutes of measuring would be lost; return that of the traces.

        Raises:
            UserError: they cannot be created.
        """
        from parbench.bench.util.files import explained

        if self.out is None:
            return None
        traces = self.out / "traces" if self.trace else None
        with explained(self.out):
            (traces or self.out).mkdir(parents=True, exist_ok=True)
        return traces

    def limit_bytes(self, device_type: str) -> int | None:
        """Return the memory limit of a measuring process."""
        from parbench.bench.util.memory_limits import available_memory

        given = read_bytes(self.memory_limit, "--memory-limit")
        if given is not None or device_type != "cpu":
            return given
        # Beyond it the kernel would kill processes, and perhaps not the measuring one.
        return int(0.9 * available_memory())


@takes(WorkloadOptions, MeasurementOptions)
def profile(
    shape: WorkloadOptions,
    measurement: MeasurementOptions,
    methods: Annotated[str, typer.Option(help="Methods, comma-separated, or all.", metavar="A,B")] = "all",
    budget: Annotated[str | None, typer.Option(help="Adapter parameters: 24k, 0.1%, match:lora(r=8).")] = None,
) -> None:
    """Measure the cost of methods: time, memory, energy and operations.

    LoRA and the frozen model are measured, too, as references.
    """
    announce_loading()
    from parbench.reports.plotting import import_matplotlib

    import_matplotlib()
    from parbench.bench.profile.runner import ProfileRequest, run_profile
    from parbench.bench.profile.workload import Repetitions, check_length
    from parbench.bench.util.environment import choose_device, quiet_libraries

    shape.check()
    measurement.check()
    sizes = shape.batch_sizes()
    quiet_libraries()
    chosen = choose_device(shape.device)
    work = shape.workload(str(chosen))
    find_available_model(shape.model, weights=not (shape.random_weights or measurement.predict))
    check_length(work)
    if measurement.predict:
        from parbench.bench.cli.predicted_memory import print_predicted

        print_predicted(_candidates(methods, budget, work), work, sizes, open_console())
        return
    traces = measurement.prepared_folder()
    request = ProfileRequest(
        candidates=_candidates(methods, budget, work),
        workload=work,
        effort=Repetitions(measurement.steps, measurement.warm_up, shape.new_tokens),
        batches=sizes,
        rounds=measurement.rounds,
        limit_bytes=measurement.limit_bytes(chosen.type),
        traces=traces,
        force=measurement.force,
        kept=measurement.out,
    )
    console = open_console()
    found = run_profile(request, lambda text: say(text, console), find_largest=measurement.max_batch)
    _print_profile(found, console)
    if measurement.out is not None:
        _write(found, measurement.out, curves=len(sizes) > 1)
        say(f"written to {measurement.out}", console)
    if found.failures:
        end_incomplete("not measured", (f"{name}: {reason}" for name, reason in found.failures.items()))


def _print_profile(found: Profile, console: Console) -> None:
    from parbench.reports.profile.tables import heading, profile_tables, remarks
    from parbench.reports.render import TerminalTables

    say(heading(found), console)
    console.print(TerminalTables(profile_tables(found)))
    for remark in remarks(found):
        say(remark, console)


def _write(found: Profile, folder: Path, curves: bool) -> None:
    from parbench.bench.profile.kept import KeptMeasurements
    from parbench.reports.figures.profile_curves import write_curves
    from parbench.reports.profile.tables import write_profile

    write_profile(found, folder)
    KeptMeasurements(folder).clear()
    if curves:
        write_curves(found, folder / "curves.png")


def _candidates(methods: str, budget: str | None, work: Workload) -> tuple[Candidate, ...]:
    """Return the frozen floor, LoRA and the methods asked for, each fitted to the budget if there is one."""
    from parbench.bench.budget.budget import parse_budgets
    from parbench.bench.budget.count import Architecture
    from parbench.bench.budget.fit import fit
    from parbench.bench.models.catalogue import find_model
    from parbench.bench.plan.asked_budget import refuse_two_sizes
    from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate
    from parbench.methods import METHODS, find_method
    from parbench.methods.expression import default_setting
    from parbench.reports.profile.summary import REFERENCE

    expressions = list(METHODS) if methods == "all" else read_names(methods, "--methods") or ()
    chosen = {expression: find_method(expression) for expression in expressions}
    if not any(choice.method.name == REFERENCE for choice in chosen.values()):
        chosen = {REFERENCE: find_method(REFERENCE), **chosen}
    settings = {expression: default_setting(choice) for expression, choice in chosen.items()}
    candidates = {name: Candidate.of(name, choice.method, settings[name]) for name, choice in chosen.items()}
    if budget is not None:
        refuse_two_sizes(budget, chosen.values())
        architecture = Architecture(find_model(work.base_model))

        def counted(expression: str) -> int:
            choice = find_method(expression)
            return architecture.count(choice.method, default_setting(choice)).reported

        limits = parse_budgets(budget, architecture, counted)
        if len(limits) > 1:
            raise UserError(f'"--budget {budget}" names several; profile them one after the other')
        for name, choice in chosen.items():
            found = fit(choice.method, settings[name], limits[0], architecture, given=choice.values)
            candidates[name] = (
                Candidate.of(name, choice.method, found.setting)
                if found.setting
                else Candidate(choice.method.name, name, refusal=found.note, method=choice.method.name)
            )
    return (FROZEN_FLOOR, *_told_apart(candidates))


def _told_apart(candidates: dict[str, Candidate]) -> list[Candidate]:
    """Return candidates under names of their own: ``lora(r=4)`` beside ``lora(r=8)``."""
    from dataclasses import replace

    names = [candidate.name for candidate in candidates.values()]
    return [
        one if names.count(one.name) == 1 or expression == one.name else replace(one, name=expression)
        for expression, one in candidates.items()
    ]
