"""`bench task`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from parbench.bench.cli.command import CommandLine
from parbench.bench.cli.console import open_console, say
from parbench.bench.cli.grid import Grid
from parbench.bench.cli.options import DEFAULT_STORE, DataRoot, Out
from parbench.bench.cli.parsing import read_positive
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.tasks.base import Splits, Task
    from parbench.tasks.data.source import DataSource

task = CommandLine(name="task", help="Inspect a task before anything is trained.", no_args_is_help=True)


@task.callback()
def _group() -> None:
    """Inspect a task before anything is trained."""


@task.command()
def check(
    name: Annotated[str, typer.Argument(help="A task's name, or the YAML file that defines one.", metavar="TASK")],
    model: Annotated[str | None, typer.Option(help="Base model, to see its tokens and what is truncated.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of an example. Default: that of training.")] = None,
    examples: Annotated[int, typer.Option(help="How many examples to show.")] = 3,
    data_root: DataRoot = None,
    out: Out = DEFAULT_STORE,
) -> None:
    """Show a task's splits, examples, labels and leaks, and the scores of its references and of a constant."""
    from parbench.bench.store.store import Store
    from parbench.bench.train.settings import TrainingSettings
    from parbench.bench.util.environment import quiet_libraries
    from parbench.tasks.data.location import DataLocation
    from parbench.tasks.data.lock import RevisionLock
    from parbench.tasks.testing.inspection import check_files, label_counts, source_to_check, task_to_check, truncated

    quiet_libraries()
    read_positive(examples, "--examples")
    read_positive(max_length, "--max-length")
    if max_length is not None and model is None:
        raise UserError("--max-length counts a base model's tokens; give --model as well")
    console = open_console()
    found = task_to_check(name)
    lock = RevisionLock(Store(out).lock_file)
    root = None if data_root is None else str(data_root)
    source = source_to_check(found, DataLocation("any", str(lock.path), root))
    splits = found.splits(source)
    check_files(splits)
    say(f"{found.name}: {found.reference}", console)
    say(f"data: {found.describe(source)}, {found.revision(source)}", console)
    _print_counts(console, splits, label_counts(found, splits))
    tokenizer = _tokenizer(found, model, lock) if model else None
    length = max_length or int(TrainingSettings.model_fields["max_length"].default)
    for split in ("train", "reported"):
        _print_examples(console, found, splits, split, examples, tokenizer, length)
    if tokenizer is not None:
        shares = {name: truncated(found, split, tokenizer, length) for name, split in splits.by_name.items()}
        listed = ", ".join(f"{share:.1%} of {split}" for split, share in shares.items())
        say(f"longer than {length} tokens, and so truncated: {listed}", console)
    _print_scores(console, found, splits)
    _print_findings(console, found, splits, source)


def _print_scores(console: Console, found: Task, splits: Splits) -> None:
    from parbench.tasks.testing.inspection import constant, perfect_scores

    def listed(scores: Mapping[str, float]) -> str:
        return ", ".join(f"{metric} {found.unit(metric).text(value)}" for metric, value in scores.items())

    perfect = perfect_scores(found, splits)
    if perfect is None:
        say("the references against themselves: not known for this kind of task", console)
    else:
        say(f"the references against themselves: {listed(perfect)}", console)
    reference = constant(found, splits)
    if reference is None:
        say("a constant prediction: not known for this kind of task", console)
    else:
        say(
            f"a constant prediction ({reference.says}): {listed(reference.scores)}; {found.primary} ranks",
            console,
        )


def _print_findings(console: Console, found: Task, splits: Splits, source: DataSource) -> None:
    from parbench.tasks.data.folder import FolderSource
    from parbench.tasks.leaks import leaks

    leaked, size = leaks(found, splits), len(splits.reported)
    say(
        f"leaks: {leaked.reported} of {size} reported examples ({leaked.reported / size:.1%}) are in train or "
        f"selection as well, and {leaked.similar} more are there but for case and blanks",
        console,
    )
    say(f"leaks: {leaked.selection} of {len(splits.selection)} selection examples are in train as well", console)
    ignored = sum(source.ignored(ref) for ref in found.refs) if isinstance(source, FolderSource) else 0
    if ignored:
        say(f"ignored: {ignored} hidden files, or files of systems and editors, among the data", console)
    for finding in found.findings(splits):
        say(f"warning: {finding}", console)


def _print_counts(console: Console, splits: Splits, labels: dict[str, dict[str, int]]) -> None:
    sizes = splits.sizes
    rows = [("all", *(f"{size:,}" for size in sizes.values()))]
    rows += [(label, *(f"{counts[split]:,}" for split in sizes)) for label, counts in labels.items()]
    console.print(Grid(("examples", *sizes), rows, numbers=frozenset(sizes)))


def _print_examples(
    console: Console, found: Task, splits: Splits, split: str, most: int, tokenizer: Any, max_length: int
) -> None:
    from parbench.tasks.base import Modality
    from parbench.tasks.testing.inspection import ANY_LENGTH, shown

    if found.modality is not Modality.TEXT:
        max_length = ANY_LENGTH  # a prompt with images is never shortened
    rows = splits.by_name[split]
    examples = rows.select(range(min(most, len(rows))))
    say(f"examples of the {split} split:", console)
    for row, example in enumerate(examples):
        say(example["example"], console)
        for part, text in shown(found, example).items():
            say(f"  {part}: {text}", console)
        if tokenizer is not None:
            ids = found.prepare(examples.select([row]), tokenizer, max_length)[0]["input_ids"]
            words = getattr(tokenizer, "tokenizer", tokenizer).convert_ids_to_tokens(ids[:40])
            say(f"  {len(ids)} tokens: {' '.join(map(repr, words))}", console)


def _tokenizer(found: Task, model: str, lock: Any) -> Any:
    from parbench.bench.models.catalogue import find_model

    if not found.modality.has_text:
        say(f"{found.name} reads {found.modality.value}s, so that nothing of it is truncated")
        return None
    base = find_model(model)
    return base.processor(found.modality, base.weights.revision(lock))
