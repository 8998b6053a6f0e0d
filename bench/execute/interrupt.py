"""Handles the user's signals: Ctrl-C, a closed terminal, a request to terminate, and Ctrl-Z."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self, TypeVar

T = TypeVar("T")

# Linux's major numbers of terminals: 4 and 5 of consoles, 136 to 143 of pseudo-terminals.
_TERMINALS = {4, 5, *range(136, 144)}


class Interrupt:
    """Within its block, the first request to stop only sets ``asked``; the second raises `KeyboardInterrupt`.

    Requests are Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed, unless SIGHUP is ignored (``nohup``).

    Args:
        note: shows the user a line.
        is_busy: returns whether a run is in progress or being started, which then saves its present step.
    """

    def __init__(self, note: Callable[[str], None], is_busy: Callable[[], bool]) -> None:
        self.asked = False
        self._note = note
        self._is_busy = is_busy
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread receives signals; in others (of a notebook, a server) they are not ours to handle.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal(_is_terminal)
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        busy = self._is_busy()
        try:
            self._note(
                "finishing and saving the present step; once more to stop at once"
                if busy
                else "stopping; no run is in progress here"
            )
        except (OSError, SystemExit):  # the reader of the output is gone; rich ends the program for a broken pipe
            _leave_terminal(lambda found: stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode))


def until_interrupted(
    note: Callable[[str], None],
    is_busy: Callable[[], bool],
    records: Callable[[Interrupt], Iterator[T]],
    end: Callable[[], None],
) -> Iterator[T]:
    """Yield what ``records`` does, which follows the interrupt that it is given; call ``end`` whatever happens.

    Args:
        note: shows the user a line.
        is_busy: returns whether a run is in progress or being started.

    Raises:
        KeyboardInterrupt: the user has asked to stop.
    """
    with Interrupt(note, is_busy) as interrupt:
        try:
            yield from records(interrupt)
        finally:
            end()
    if interrupt.asked:
        raise KeyboardInterrupt


@contextmanager
def suspending(sessions: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Within the block, Ctrl-Z also stops processes outside the terminal's group, and ``fg`` continues them.

    Args:
        sessions: returns the ids of their process groups.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTSTP) != signal.SIG_DFL:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        groups = list(sessions())
        _send(groups, signal.SIGSTOP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Execution continues here after ``fg``.
        signal.signal(signal.SIGTSTP, handle)
        _send(groups, signal.SIGCONT)

    signal.signal(signal.SIGTSTP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def _send(groups: Iterable[int], number: int) -> None:
    for group in groups:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(group, number)


def _leave_terminal(kinds: Callable[[os.stat_result], bool]) -> None:
    """Discard output to descriptors that are gone, so that printing raises no error that would end a run."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        with suppress(OSError):  # it is closed
            if kinds(os.fstat(descriptor)):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _is_terminal(found: os.stat_result) -> bool:
    """Return whether a descriptor is of a terminal; `os.isatty` denies it of one that is gone."""
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) in _TERMINALS
