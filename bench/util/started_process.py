"""Processes that a server forks, also where that server is killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from types import ModuleType

import psutil

from parbench.bench.util.errors import UserError
from parbench.bench.util.process_environment import fork_server

_TRIES = 3
# What multiprocessing reports of a process whose server is gone.
_SERVER_LOST = 255


@dataclass(frozen=True)
class Started:
    """A process, and the server that has forked it and learns its exit code.

    If the server is killed, the process continues, and multiprocessing reports its end too early.

    Attributes:
        own: the process; ``None`` where it had ended before it could be looked at.
        server: likewise.
    """

    process: ForkServerProcess
    own: psutil.Process | None = None
    server: psutil.Process | None = None

    @property
    def is_unobserved(self) -> bool:
        """Whether its server is gone, so that its exit code will not be known."""
        if self.process.exitcode != _SERVER_LOST:
            return False
        # The server reaps a process before it reports the exit code; while it dies, it may still seem to run.
        return (self.own is not None and _runs(self.own)) or (self.server is not None and not _runs(self.server))

    @property
    def exit_code(self) -> int | None:
        """The exit code of a process that has ended; ``None`` where its server is gone."""
        return None if self.is_unobserved else self.process.exitcode

    def is_alive(self) -> bool:
        """Return whether the process still runs."""
        return self.process.is_alive() or (self.is_unobserved and self.own is not None and _runs(self.own))

    def is_suspended(self) -> bool:
        """Return whether the process was stopped by a signal and may be continued."""
        try:
            return self.own is not None and bool(self.own.status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """End the process now, and wait for its end."""
        self.process.kill()
        self.process.join()
        if self.is_alive() and self.own is not None:
            with suppress(psutil.NoSuchProcess):
                self.own.kill()


def start_process(process: ForkServerProcess) -> Started:
    """Start a process; a server that has been killed is started again.

    Raises:
        UserError: it cannot be started.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            # A server that has died is started again here, in the declared environment.
            fork_server()
            with _without_main():
                process.start()
            break
        except (EOFError, OSError) as error:  # the server died in between, or the system has no room for a process
            if not tries_left:
                why = str(error) or type(error).__name__
                raise UserError(
                    f"a process cannot be started ({why}): something ends the server that starts processes, or the "
                    "machine has no room for it; free memory and try again"
                ) from error

    try:
        own = psutil.Process(process.pid)
        return Started(process, own, own.parent())
    except psutil.NoSuchProcess:  # it has ended already
        return Started(process)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from importing the user's script in the new process, where it would run once more.

    Our processes call functions of our own modules, which they import by name.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
