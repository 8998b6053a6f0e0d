"""`bench judge`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from parbench.bench.cli.command import CommandLine
from parbench.bench.cli.console import open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out
from parbench.bench.cli.parsing import read_folder
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.reports.judged import Judged
    from parbench.reports.pairing import Pairing
    from parbench.tasks.judge import JudgeClient, JudgeSettings

_HELP = "Compare answers pairwise, or check whether a judge can be asked."

judge = CommandLine(name="judge", help=_HELP, no_args_is_help=True)

# An answer that any judge can rate, in the form that FastChat's prompts ask for.
_CHECK = (
    "Rate how well the answer meets the question, on a scale of 1 to 10. Give one sentence of explanation, then the "
    'rating in exactly this form: "[[rating]]", for example: "Rating: [[5]]".\n\n'
    "[Question]\nHow many days has a week?\n\n[Answer]\nA week has seven days."
)


class LimitName(StrEnum):
    """Names of the limit on a judgment's tokens."""

    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


MaxTokens = Annotated[int, typer.Option(help="Most tokens of a judgment.")]
Limit = Annotated[LimitName, typer.Option(help="The endpoint's name for that limit.")]
Temperature = Annotated[bool, typer.Option(help="Send a temperature of 0, or none, for a judge that accepts none.")]


@judge.callback(help=_HELP)
def _group() -> None:
    """Group the sub-commands."""


@judge.command()
def check(
    spec: Annotated[str, typer.Argument(help="MODEL@URL, as for --judge.", metavar="SPEC")],
    max_tokens: MaxTokens = 2048,
    limit_name: Limit = LimitName.MAX_TOKENS,
    temperature: Temperature = True,
) -> None:
    """Ask a judge for one rating; print the rating, the time, and the model that the endpoint reports."""
    from parbench.tasks.judge import ClientSettings, Failure, JudgeClient, JudgeSpec, Retries, Sampling, parse_rating
    from parbench.tasks.judge.verdict import read_otherwise

    sampling = Sampling(0.0 if temperature else None, max_tokens, limit_name.value)
    with JudgeClient(JudgeSpec.parse(spec), ClientSettings(retries=Retries(attempts=2))) as client:
        started = time.monotonic()
        reply = client.ask(({"role": "user", "content": _CHECK},), sampling)
        seconds = time.monotonic() - started
    if isinstance(reply, Failure):
        raise UserError(f"the judge {client.model} cannot be asked: {reply.message} ({reply.kind})")
    rating = parse_rating(reply.text)
    say(f"rating: {rating.problem.replace('_', ' ') if rating.problem else rating.value}")
    if read_otherwise(rating.value, rating.fastchat_score):
        say(f"rating as FastChat reads it: {rating.fastchat_score}")
    say(f"seconds: {seconds:.1f}")
    say(f"served model: {reply.served_model!r}" if reply.served_model else "served model: not reported")
    say(f"judgment: {reply.text!r}")
    if rating.problem:
        raise UserError(f"the judge {client.model} does not keep to the form [[rating]]; name another")


@judge.command()
def compare(
    task: Annotated[str, typer.Argument(help="A task with judged answers, such as mt_bench.", metavar="TASK")],
    method: Annotated[
        str,
        typer.Argument(help="A method, its row in the leaderboard, or comma-separated run ids.", metavar="METHOD"),
    ],
    baseline: Annotated[str, typer.Argument(help="The method to compare with, likewise.", metavar="BASELINE")],
    spec: Annotated[
        str,
        typer.Option(
            "--judge",
            help="MODEL@URL of an OpenAI-compatible endpoint: a provider, vllm serve or transformers serve.",
        ),
    ],
    repeats: Annotated[int, typer.Option(help="Judgments of each comparison in each order.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.")] = 4,
    max_tokens: MaxTokens = 2048,
    limit_name: Limit = LimitName.MAX_TOKENS,
    temperature: Temperature = True,
    data_root: Annotated[
        Path | None, typer.Option(help="Data folder of the runs.", parser=read_folder, metavar="DIR")
    ] = None,
    out: Out = DEFAULT_STORE,
) -> None:
    """Have a judge compare the recorded answers of two methods, in both orders, seed by seed.

    With FastChat's pairwise prompts. Raw judgments are kept in OUT/comparisons/judgments: the same command again asks
    only for missing ones.
    """
    from parbench.bench.store.layout import COMPARISONS
    from parbench.bench.store.store import Store
    from parbench.reports.judged import JUDGMENTS, check_judged, write_judged
    from parbench.reports.pairing import pair_answers
    from parbench.tasks.judge import JudgeClient, JudgeSettings, JudgeSpec, Sampling

    sampling = Sampling(0.0 if temperature else None, max_tokens, limit_name.value)
    settings = JudgeSettings(repeats, sampling, concurrency)
    store, console = Store(out), open_console()
    # Whether the judge can be asked at all is known before the store is read.
    with JudgeClient(JudgeSpec.parse(spec)) as client:
        pairing = pair_answers(store, task, method, baseline, data_root)
        count, cache = pairing.judgments * repeats, store.root / COMPARISONS / JUDGMENTS
        say(f"{count:,} judgments by {client.model}; those that are in {cache} are not asked for again", console)
        judged = _judged(pairing, client, settings, cache, console)
    check_judged(judged)
    files = write_judged(judged, store)
    _show(judged, console)
    for file in files:
        say(f"written: {file}", console)


def _judged(pairing: Pairing, client: JudgeClient, settings: JudgeSettings, cache: Path, console: Console) -> Judged:
    """Ask for all judgments of a pairing, seed by seed."""
    import pandas as pd

    from parbench.reports.judged import Judged
    from parbench.tasks.judge import compare_answers, judge_identity

    parts = []
    for seed in pairing.seeds:
        answers = (pairing.a.answers[seed], pairing.b.answers[seed])
        with _progress(console, f"judgments of seed {seed}") as progress:
            found = compare_answers(pairing.questions, *answers, client, settings, cache, progress)
        parts.append(found.assign(seed=seed))
    identity = judge_identity(client.model, settings, pairing.questions)
    return Judged(pairing, identity, pd.concat(parts, ignore_index=True))


def _show(judged: Judged, console: Console) -> None:
    from parbench.reports.render import one_line, terminal_tables

    say(judged.title, console)
    if judged.pairing.label:
        say(judged.pairing.label, console)
    for piece in terminal_tables([judged.table], console, console.options):
        console.print(piece)
    for note in judged.notes():
        say(one_line(note), console)


@contextmanager
def _progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of judgments on a terminal, and nothing in a file."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
