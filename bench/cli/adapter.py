"""`bench adapter`."""

from __future__ import annotations

import os
import shlex
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from parbench.bench.cli.command import CommandLine
from parbench.bench.cli.console import announce_loading, counted, open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, DataRoot, Out
from parbench.bench.cli.parsing import read_folder, read_sizes
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.store.store import Store

_HELP = "Measure what trained adapters can be used for, or export one."

DEFAULT_RANK = "16"

adapter = CommandLine(name="adapter", help=_HELP, no_args_is_help=True)

Model = Annotated[
    str | None, typer.Option(help="Base model of the runs, where its name in the records does not lead to it.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: an accelerator if there is one.")]


@adapter.callback(help=_HELP)
def _group() -> None:
    """Group the sub-commands."""


@adapter.command()
def measure(
    runs: Annotated[list[str] | None, typer.Argument(help="Run ids; default: all.", metavar="[RUN]...")] = None,
    sizes: Annotated[
        str, typer.Option(help="LoRAs to convert to: ranks, and shares of energy below 1.", metavar="A,B")
    ] = "8,16,64,0.9,0.99",
    model: Model = None,
    task: Annotated[
        Path | None,
        typer.Option(help="YAML file of the runs' task, if it has one.", parser=read_folder, metavar="FILE"),
    ] = None,
    data_root: DataRoot = None,
    device: Device = None,
    again: Annotated[bool, typer.Option("--again", help="Also runs that were measured before.")] = False,
    out: Out = DEFAULT_STORE,
) -> None:
    """Merge, load, time and convert the adapters of finished runs; `bench report` shows what was found.

    Converted adapters are scored on the examples that the run was scored on.
    """
    from parbench.bench.deploy.measure import Measured
    from parbench.bench.deploy.measure import measure as measure_adapter
    from parbench.bench.deploy.trained import Whereabouts, find_trained
    from parbench.bench.record.deployment import Deployment
    from parbench.bench.run.inputs import DataCache
    from parbench.bench.store.deployments import new_folder, read_deployment, write_deployment
    from parbench.bench.store.store import Store
    from parbench.bench.util.environment import choose_device, quiet_libraries

    where = Whereabouts(model, data_root, task)
    asked, store = read_sizes(sizes, "--sizes"), Store(out)
    store.require()
    announce_loading()
    quiet_libraries()
    place, inputs, console = choose_device(device), DataCache(), open_console()
    refused = []
    for run_id in runs or _completed(store):
        try:
            trained = find_trained(store, run_id, where)
            if isinstance(read_deployment(store, trained.record), Deployment) and not again:
                continue
            trained.check_data()
            with new_folder(store, trained.record.run_id) as folder, warnings.catch_warnings():
                # What loading the base model warns of is in the record of the run.
                warnings.simplefilter("ignore")
                found = measure_adapter(trained, inputs.of(trained.planned), Measured(asked, place, folder))
                write_deployment(found, store, folder)
        except UserError as error:
            if runs:
                raise
            refused.append(f"{run_id}: {error}")
            continue
        say(f"measured {trained.record.spec}", console)
    for sentence in refused:
        say(f"not measured: {sentence}", console)
    say(f"see them with: bench report --out {shlex.quote(str(store.root))}", console)


def _completed(store: Store) -> list[str]:
    """Return the ids of the runs that were completed to be reported."""
    from parbench.bench.record.run_record import RunRecord, Status
    from parbench.bench.train.protocol import Purpose

    found = [
        record.run_id
        for record in store.scan()
        if isinstance(record, RunRecord) and record.status is Status.OK and record.spec.purpose == Purpose.REPORT
    ]
    if not found:
        raise UserError(f'there are no completed runs in "{store.root}"')
    return found


@adapter.command()
def export(
    run: Annotated[str, typer.Argument(help="The beginning of a run's id.", metavar="RUN")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write.", parser=read_folder, metavar="DIR")],
    form: Annotated[
        Literal["lora"] | None, typer.Option("--as", help="Convert the adapter; default: as it was trained.")
    ] = None,
    rank: Annotated[
        str | None,
        typer.Option(help=f"Of the LoRA: a rank, or a share of the update's energy below 1; default: {DEFAULT_RANK}."),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Merge the adapter and write the whole model, in float32.")
    ] = False,
    hub: Annotated[
        str | None, typer.Option(help="Then upload the folder to this repository, with your own token.", metavar="REPO")
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Your word that --hub may write to the repository.")
    ] = False,
    model: Model = None,
    out: Out = DEFAULT_STORE,
) -> None:
    """Write the adapter of a run as a folder for peft, a serving engine or the hub, with a model card.

    \b
    Examples:
    bench adapter export 1a2b3c --to my_adapter
    bench adapter export 1a2b3c --to my_lora --as lora --rank 16
    bench adapter export 1a2b3c --to my_model --merged
    """
    if merged and form:
        raise UserError("--merged writes a model and --as lora an adapter; give one of the two")
    if rank is not None and not form:
        raise UserError("--rank is of a LoRA; give --as lora as well")
    if hub and not publish:
        raise UserError(f"--hub {hub} would upload the folder to that repository; if it may, give --publish as well")
    if publish and not hub:
        raise UserError("--publish names no repository; give --hub OWNER/NAME as well")
    (size,) = read_sizes(rank or DEFAULT_RANK, "--rank", most=1)
    from parbench.bench.deploy.export import export as write_export
    from parbench.bench.deploy.trained import Whereabouts, find_trained
    from parbench.bench.store.store import Store
    from parbench.bench.util.environment import quiet_libraries
    from parbench.reports.deployment.card import card_of

    announce_loading()
    quiet_libraries()
    store = Store(out)
    trained = find_trained(store, run, Whereabouts(model))
    kind = "merged" if merged else form or "as trained"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_export(trained, kind, size, to, partial(card_of, store, trained, kind))
    say(f"wrote {to} ({counted(len(list(to.iterdir())), 'file')})", open_console())
    if hub:
        say(f"uploaded to {_upload(to, hub)}", open_console())


def _upload(folder: Path, repository: str) -> str:
    from parbench.bench.deploy.export import upload

    try:
        return upload(folder, repository, os.environ.get("HF_ENDPOINT"))
    except UserError as error:
        raise UserError(
            f'{error}. The folder "{folder}" is written: upload it with "hf upload {repository} '
            f'{shlex.quote(str(folder))} --private", or remove it and give this command again'
        ) from error
