"""Ctrl-C: once, and the present step is finished and saved; twice, and everything ends now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Interrupt:
    """Within its block, the first interrupt, or request to terminate, only sets ``asked``; the second one interrupts.

    Args:
        tell: shows the user a line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.asked = False
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread gets signals; elsewhere (a notebook's, a server's) they are somebody else's.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._tell("finishing and saving the present step; once more to stop at once")


def until_interrupted(
    tell: Callable[[str], None], records: Callable[[Interrupt], Iterator[T]], end: Callable[[], None]
) -> Iterator[T]:
    """Yield what ``records`` does, which minds the interrupt that it is given; call ``end`` whatever happens.

    Args:
        tell: shows the user a line.

    Raises:
        KeyboardInterrupt: the user has asked to stop.
    """
    with Interrupt(tell) as interrupt:
        try:
            yield from records(interrupt)
        finally:
            end()
    if interrupt.asked:
        raise KeyboardInterrupt
