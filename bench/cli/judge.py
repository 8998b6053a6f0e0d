"""`bench judge`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parbench.bench.cli.console import open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out
from parbench.bench.cli.parsing import read_folder, read_positive
from parbench.bench.util.errors import UserError

_HELP = "Compare answers pairwise, serve a judge of answers, or see whether one can be asked."

judge = typer.Typer(name="judge", help=_HELP, no_args_is_help=True)

# What a check asks: an answer that any judge can rate, in the form that FastChat's prompts ask for.
_CHECK = (
    "Rate how well the answer meets the question, on a scale of 1 to 10. Give one sentence of explanation, then the "
    'rating in exactly this form: "[[rating]]", for example: "Rating: [[5]]".\n\n'
    "[Question]\nHow many days has a week?\n\n[Answer]\nA week has seven days."
)
_DIGITS = 12


class LimitName(StrEnum):
    """Names of the limit on a judgment's tokens."""

    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


MaxTokens = Annotated[int, typer.Option(help="Most tokens of a judgment.")]
Limit = Annotated[LimitName, typer.Option(help="What the endpoint calls that limit.")]
Temperature = Annotated[bool, typer.Option(help="Send a temperature of 0, or none to a judge that takes none.")]


@judge.callback(help=_HELP)
def _group() -> None:
    """Hold the sub-commands together."""


@judge.command()
def serve(
    model: Annotated[str, typer.Option(help="Who judges: a base model's name, a hub id or a local folder.")],
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; a free one if 0.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; an accelerator if there is one.")] = None,
    template: Annotated[
        str | None, typer.Option(help="A template of FastChat's; the model's own chat template if not given.")
    ] = None,
    begins: Annotated[
        str,
        typer.Option(help='The beginning of every judgment, such as "Rating: [[", for a model that keeps to no form.'),
    ] = "",
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a judgment, whatever is asked for.")
    ] = None,
    out: Out = DEFAULT_STORE,
) -> None:
    """Serve a language model as a judge, on this machine only, until Ctrl-C."""
    from parbench.bench.models.catalogue import find_model
    from parbench.bench.record.run_spec import digest
    from parbench.bench.store.store import Store
    from parbench.bench.util.environment import choose_device, quiet_libraries
    from parbench.tasks.base import LANGUAGE_MODEL
    from parbench.tasks.data.lock import RevisionLock
    from parbench.tasks.judge import LocalJudgeServer
    from parbench.tasks.judge.conversation import messages_prompt

    quiet_libraries()
    read_positive(max_new_tokens, "--max-new-tokens")
    base = find_model(model)
    target = choose_device(device)
    revision = base.weights.revision(RevisionLock(Store(out).lock_file))
    tokenizer = base.tokenizer(revision)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{base.name} is no causal language model: its tokenizer has no end of text; name another")
    # Here a wrong template is one sentence; later it would be the answer to every question.
    messages_prompt([{"role": "user", "content": _CHECK}], tokenizer, template)
    weights = base.load(LANGUAGE_MODEL, revision).to(target)  # type: ignore[arg-type]
    # Judgments are kept under the judge's name: it must change with all that changes them.
    fixed = {"revision": revision, "template": template, "begins": begins, "max_new_tokens": max_new_tokens}
    name = f"{base.name.rpartition('/')[2]}-{digest(fixed)[:_DIGITS]}"
    with LocalJudgeServer(weights, tokenizer, name, template, max_new_tokens, begins, port) as server:
        console = open_console()
        say(f"{base.name} judges on {target}; end it with Ctrl-C", console)
        say(f"--judge {server.spec}", console)
        try:
            _wait()
        except KeyboardInterrupt:
            say("the judge has ended", console)


@judge.command()
def check(
    spec: Annotated[str, typer.Argument(help="MODEL@URL, as for --judge.", metavar="SPEC")],
    max_tokens: MaxTokens = 2048,
    limit_name: Limit = LimitName.MAX_TOKENS,
    temperature: Temperature = True,
) -> None:
    """Ask a judge for one rating and show the rating, the time, and the model that the endpoint says it used."""
    from parbench.tasks.judge import ClientSettings, Failure, JudgeClient, JudgeSpec, Retries, Sampling, parse_rating

    sampling = Sampling(0.0 if temperature else None, max_tokens, limit_name.value)
    with JudgeClient(JudgeSpec.parse(spec), ClientSettings(retries=Retries(attempts=2))) as client:
        started = time.monotonic()
        reply = client.ask(({"role": "user", "content": _CHECK},), sampling)
        seconds = time.monotonic() - started
    if isinstance(reply, Failure):
        raise UserError(f"the judge {client.model} cannot be asked: {reply.message} ({reply.kind})")
    rating = parse_rating(reply.text)
    say(f"rating: {rating.problem.replace('_', ' ') if rating.problem else rating.value}")
    say(f"seconds: {seconds:.1f}")
    say(f"served model: {reply.served_model!r}" if reply.served_model else "served model: not said")
    say(f"judgment: {reply.text!r}")
    if rating.problem:
        raise UserError(f"the judge {client.model} does not keep to the form [[rating]]; name another")


@judge.command()
def compare(
    task: Annotated[str, typer.Argument(help="A task with judged answers, such as mt_bench.", metavar="TASK")],
    method: Annotated[
        str, typer.Argument(help="A method, its row in the leaderboard, or ids of runs by comma.", metavar="METHOD")
    ],
    baseline: Annotated[str, typer.Argument(help="What it is compared with, likewise.", metavar="BASELINE")],
    spec: Annotated[
        str,
        typer.Option(
            "--judge", help="MODEL@URL of an OpenAI-compatible endpoint; of a local one, see bench judge serve."
        ),
    ],
    repeats: Annotated[int, typer.Option(help="Judgments of each comparison in each order.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Inquiries under way at a time.")] = 4,
    max_tokens: MaxTokens = 2048,
    limit_name: Limit = LimitName.MAX_TOKENS,
    temperature: Temperature = True,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the runs had their data from.", parser=read_folder, metavar="DIR")
    ] = None,
    out: Out = DEFAULT_STORE,
) -> None:
    """Have a judge compare the answers that two methods' runs have left, in both orders, seed by seed.

    With FastChat's pairwise prompts. Raw judgments are kept in OUT/comparisons/judgments: the same command again asks
    for those that are missing alone.
    """
    import pandas as pd

    from parbench.bench.store.layout import COMPARISONS
    from parbench.bench.store.store import Store
    from parbench.reports.judged import JUDGMENTS, Judged, check_judged, write_judged
    from parbench.reports.pairing import pair_answers
    from parbench.reports.render import one_line, terminal_tables
    from parbench.tasks.judge import JudgeClient, JudgeSettings, JudgeSpec, Sampling, compare_answers, judge_identity

    sampling = Sampling(0.0 if temperature else None, max_tokens, limit_name.value)
    settings = JudgeSettings(repeats, sampling, concurrency)
    store, console = Store(out), open_console()
    # Whether the judge can be asked at all is known before the store is read.
    with JudgeClient(JudgeSpec.parse(spec)) as client:
        pairing = pair_answers(store, task, method, baseline, data_root)
        count, cache = pairing.judgments * repeats, store.root / COMPARISONS / JUDGMENTS
        say(f"{count:,} judgments by {client.model}; those that are in {cache} are not asked for again", console)
        parts = []
        for seed in pairing.seeds:
            answers = (pairing.a.answers[seed], pairing.b.answers[seed])
            with _progress(console, f"judgments of seed {seed}") as progress:
                found = compare_answers(pairing.questions, *answers, client, settings, cache, progress)
            parts.append(found.assign(seed=seed))
    compared = pd.concat(parts, ignore_index=True)
    judged = Judged(pairing, judge_identity(client.model, settings, pairing.questions), compared)
    check_judged(judged)
    files = write_judged(judged, store)
    say(judged.title, console)
    if pairing.label:
        say(pairing.label, console)
    for piece in terminal_tables([judged.table], console, console.options):
        console.print(piece)
    for note in judged.notes():
        say(one_line(note), console)
    for file in files:
        say(f"written: {file}", console)


@contextmanager
def _progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of judgments on a terminal, and nothing in a file."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _wait() -> None:
    """Wait for Ctrl-C."""
    threading.Event().wait()
