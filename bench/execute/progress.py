"""Shows the progress of a command: bars on a terminal, one updated line in a notebook, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.run_spec import RunSpec
from parbench.tasks import metric_unit

# Seconds between two updates in a notebook, to which each update is a message.
NOTEBOOK_INTERVAL = 0.5


class Progress(Protocol):
    """Shows what happens. A context manager: what it draws is gone after the block."""

    def known(self, runs: int) -> None:
        """So many of the runs have a record from before, and will not begin."""

    def begin(self, spec: RunSpec) -> None:
        """A run begins."""

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """An optimiser step of a run is done; ``loss`` is the newest logged one, if there is a new one."""

    def end(self, record: RunRecord) -> None:
        """A run has ended, one way or another, here or in another process."""

    def note(self, text: str) -> None:
        """Something that the user should know now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_progress(console: Console, runs: int) -> Progress:
    """Return bars for a terminal, a line that is updated in a notebook, and lines for a file or a pipe."""
    if console.is_jupyter:
        return NotebookProgress(console, runs)
    return TerminalProgress(console, runs) if console.is_terminal else LineProgress(console, runs)


class SilentProgress:
    """Shows nothing; a base for classes that show some of it."""

    def known(self, runs: int) -> None:
        """Show nothing."""

    def begin(self, spec: RunSpec) -> None:
        """Show nothing."""

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """Show nothing."""

    def end(self, record: RunRecord) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LineProgress(SilentProgress):
    """One line per run and none per step, for log files."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._runs = runs
        self._ended = 0
        self._started: dict[str, float] = {}

    def known(self, runs: int) -> None:
        """Count runs that have a record from before."""
        self._ended += runs

    def begin(self, spec: RunSpec) -> None:
        """Start the clock of a run."""
        self._started[spec.run_id] = time.perf_counter()

    def end(self, record: RunRecord) -> None:
        """Print how the run ended."""
        self._ended += 1
        started = self._started.pop(record.run_id, None)
        how = "by another process" if started is None else f"{time.perf_counter() - started:.0f} s"
        self._console.print(
            f"[{self._ended}/{self._runs}] {record.run_id} {record.spec}: {summary(record)} ({how})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def note(self, text: str) -> None:
        """Print it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class NotebookProgress(LineProgress):
    """One line per run, as in a file, and one line about the steps of the runs in progress, which is replaced in place.

    Needs a running IPython kernel. rich's bars are not used: in a notebook they need ipywidgets.
    """

    def __init__(self, console: Console, runs: int) -> None:
        super().__init__(console, runs)
        self._steps: dict[str, str] = {}
        self._losses: dict[str, str] = {}
        self._updated = float("-inf")
        self._line: Any = None

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """Update the line, unless it was updated a moment ago."""
        if loss is not None:
            self._losses[spec.run_id] = f", loss {loss:.3f}"
        self._steps[spec.run_id] = f"{spec}: step {done} of {total}{self._losses.get(spec.run_id, '')}"
        if time.perf_counter() - self._updated >= NOTEBOOK_INTERVAL:
            self._show()

    def end(self, record: RunRecord) -> None:
        """Print how the run ended, and remove it from the line."""
        super().end(record)
        self._steps.pop(record.run_id, None)
        self._show()

    def _show(self) -> None:
        self._updated = time.perf_counter()
        # Plain text, in which nothing is markup.
        self._line.update({"text/plain": "; ".join(self._steps.values())}, raw=True)

    def __enter__(self) -> Self:
        # Not a dependency: a notebook's kernel has it.
        from IPython.display import display  # type: ignore[import-not-found]

        self._line = display({"text/plain": ""}, raw=True, display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.clear()
        self._show()


class TerminalProgress:
    """A bar over the runs, one over the steps of each run in progress, and a line for each run that has ended."""

    def __init__(self, console: Console, runs: int) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._lines = LineProgress(console, runs)
        self._all = self._bars.add_task("runs", total=runs, loss="")
        self._run: dict[str, TaskID] = {}

    def known(self, runs: int) -> None:
        """Count runs that have a record from before, and move the bar over all runs."""
        self._lines.known(runs)
        self._bars.advance(self._all, runs)

    def begin(self, spec: RunSpec) -> None:
        """Show the run's bar."""
        self._lines.begin(spec)
        self._run[spec.run_id] = self._bars.add_task(escape(str(spec)), total=None, loss="")

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """Move the run's bar."""
        bar = self._run[spec.run_id]
        self._bars.update(bar, completed=done, total=total)
        if loss is not None:
            self._bars.update(bar, loss=f"loss {loss:.3f}")

    def end(self, record: RunRecord) -> None:
        """Print how the run ended, and move the bar over all runs."""
        self._lines.end(record)
        self._bars.advance(self._all)
        if (bar := self._run.pop(record.run_id, None)) is not None:
            self._bars.remove_task(bar)

    def note(self, text: str) -> None:
        """Print it above the bars."""
        self._lines.note(text)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


def summary(record: RunRecord) -> str:
    """Return a record's outcome in a few words."""
    if record.status is Status.OK and record.score is not None:
        return f"{record.primary} {metric_unit(record.spec.task, record.primary).text(record.score)}"
    if record.status is Status.OK and record.selection_score is not None:
        metric = record.selection_primary or record.primary
        return f"{metric} {metric_unit(record.spec.task, metric).text(record.selection_score)} on the selection split"
    return f"{record.status.replace('_', ' ')}, {record.reason}"
