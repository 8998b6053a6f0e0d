"""`bench profile`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parbench.bench.cli.available_model import find_available_model
from parbench.bench.cli.console import open_console, read_bytes, read_folder, read_names, read_positive, read_seeds, say
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.profile.workload import Candidate, Workload


class Dtype(StrEnum):
    """Of the base weights."""

    FLOAT32 = "float32"
    BF16 = "bf16"


def profile(
    model: Annotated[str, typer.Option(help="Base model: a name, a hub id or a local folder.")],
    methods: Annotated[str, typer.Option(help="Methods, by comma, or all.", metavar="A,B")] = "all",
    batch: Annotated[int, typer.Option(help="Examples per step.")] = 32,
    batches: Annotated[
        str | None, typer.Option(help="Several batch sizes: the curves of memory and time.", metavar="1,2,4")
    ] = None,
    seq: Annotated[int, typer.Option(help="Tokens per example.")] = 128,
    budget: Annotated[str | None, typer.Option(help="Adapter parameters: 24k, 0.1%, match:lora(r=8).")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the base weights; bf16 runs under autocast.")] = Dtype.FLOAT32,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Build the architecture; nothing is downloaded.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Visits of each method, in a fresh process each.")] = 3,
    steps: Annotated[int, typer.Option(help="Timed repetitions in a visit.")] = 10,
    warm_up: Annotated[int, typer.Option(help="Repetitions before them that are not timed.")] = 3,
    new_tokens: Annotated[int, typer.Option(help="Generated after each prompt (language models).")] = 16,
    padding: Annotated[float, typer.Option(help="Mean share of a batch's tokens that are padding, up to 0.5.")] = 0.0,
    system_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            help="Of the system prompts of methods that read one beside each example (lora_gen): 200 unless given. "
            "Other methods get none."
        ),
    ] = None,
    at: Annotated[float, typer.Option(help="How far the training is: some methods train in phases.")] = 0.4,
    max_batch: Annotated[bool, typer.Option("--max-batch", help="Search the largest batch that fits.")] = False,
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory a visit may use, such as 8GiB; on the CPU 90 % of what is free.")
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Write a torch.profiler trace of a step of each.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; an accelerator if there is one.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for profile.json, .csv, .md and curves.", parser=read_folder, metavar="DIR"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Go on where others compute on the device.")] = False,
) -> None:
    """Measure what methods cost: time, memory, energy, operations; LoRA and the frozen floor go along as references."""
    from parbench.bench.profile.kept import KeptMeasurements
    from parbench.bench.profile.runner import Request, run_profile
    from parbench.bench.profile.workload import SYSTEM_PROMPT_TOKENS, Repetitions, Workload, check_length
    from parbench.bench.util.environment import choose_device, quiet_libraries
    from parbench.bench.util.files import explained
    from parbench.reports.profile.tables import heading, profile_tables, remarks, write_profile
    from parbench.reports.render import TerminalTables

    for value, option in ((batch, "--batch"), (seq, "--seq"), (rounds, "--rounds"), (steps, "--steps")):
        read_positive(value, option)
    read_positive(new_tokens, "--new-tokens")
    if warm_up < 0:
        raise UserError(f"--warm-up is {warm_up}; give a number of at least 0")
    _check_share(padding, 0.5, "--padding")
    _check_share(at, 1.0, "--at")
    if trace and out is None:
        raise UserError("--trace writes files; say where with --out")
    sizes = read_seeds(batches, "--batches") or (batch,)
    if 0 in sizes:
        raise UserError(f'"--batches {batches}" has a 0; give numbers of at least 1')
    quiet_libraries()
    chosen = choose_device(device)
    work = Workload(
        base_model=model,
        batch_size=sizes[0],
        length=seq,
        device=str(chosen),
        dtype="bfloat16" if dtype is Dtype.BF16 else "float32",
        random_weights=random_weights,
        padding=padding,
        at=at,
        system_prompt_tokens=read_positive(system_prompt_tokens, "--system-prompt-tokens") or SYSTEM_PROMPT_TOKENS,
    )
    find_available_model(model, weights=not random_weights)
    check_length(work)
    traces = out / "traces" if trace and out else None
    if out is not None:
        # Before anything is measured: minutes would be lost.
        with explained(out):
            (traces or out).mkdir(parents=True, exist_ok=True)
    request = Request(
        subjects=_subjects(methods, budget, work),
        workload=work,
        effort=Repetitions(steps, warm_up, new_tokens),
        batches=sizes,
        rounds=rounds,
        limit_bytes=_limit(memory_limit, chosen.type),
        traces=traces,
        force=force,
        kept=out,
    )
    console = open_console()
    found = run_profile(request, lambda text: say(text, console), find_largest=max_batch)
    say(heading(found), console)
    console.print(TerminalTables(profile_tables(found)))
    for remark in remarks(found):
        say(remark, console)
    if out is not None:
        write_profile(found, out)
        KeptMeasurements(out).clear()
        if len(sizes) > 1:
            from parbench.reports.profile.curves import write_curves

            write_curves(found, out / "curves.png")
        say(f"written to {out}", console)


def _subjects(methods: str, budget: str | None, work: Workload) -> tuple[Candidate, ...]:
    """Return the frozen floor, LoRA and the methods asked for, each fitted to the budget if there is one."""
    from parbench.bench.budget.budget import parse_budgets
    from parbench.bench.budget.count import Architecture
    from parbench.bench.budget.fit import fit
    from parbench.bench.models.catalogue import find_model
    from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate
    from parbench.methods import METHODS, find_method
    from parbench.methods.setting import default_setting
    from parbench.reports.profile.summary import REFERENCE

    expressions = list(METHODS) if methods == "all" else read_names(methods, "--methods") or ()
    chosen = {expression: find_method(expression) for expression in expressions}
    if not any(choice.method.name == REFERENCE for choice in chosen.values()):
        chosen = {REFERENCE: find_method(REFERENCE), **chosen}
    settings = {expression: default_setting(choice) for expression, choice in chosen.items()}
    subjects = {name: Candidate.of(name, choice.method, settings[name]) for name, choice in chosen.items()}
    if budget is not None:
        architecture = Architecture(find_model(work.base_model))

        def counted(expression: str) -> int:
            choice = find_method(expression)
            return architecture.count(choice.method, default_setting(choice)).reported

        limits = parse_budgets(budget, architecture, counted)
        if len(limits) > 1:
            raise UserError(f'"--budget {budget}" names several; profile them one after the other')
        for name, choice in chosen.items():
            found = fit(choice.method, settings[name], limits[0], architecture)
            subjects[name] = (
                Candidate.of(name, choice.method, found.setting)
                if found.setting
                else Candidate(choice.method.name, name, refusal=found.note, method=choice.method.name)
            )
    return (FROZEN_FLOOR, *_told_apart(subjects))


def _told_apart(subjects: dict[str, Candidate]) -> list[Candidate]:
    """Return subjects under names of their own: ``lora(r=4)`` beside ``lora(r=8)``."""
    from dataclasses import replace

    names = [subject.name for subject in subjects.values()]
    return [
        subject if names.count(subject.name) == 1 or expression == subject.name else replace(subject, name=expression)
        for expression, subject in subjects.items()
    ]


def _limit(text: str | None, device_type: str) -> int | None:
    import psutil

    given = read_bytes(text, "--memory-limit")
    if given is not None or device_type != "cpu":
        return given
    # Beyond it the kernel would end processes, perhaps not this one.
    return int(0.9 * psutil.virtual_memory().available)


def _check_share(value: float, most: float, option: str) -> None:
    if not 0.0 <= value <= most:
        raise UserError(f"{option} is {value:g}; give a share from 0 to {most:g}")
