"""The end of a command that the user has interrupted, at any time from its first import to the end of its process.

This module imports nothing that is not loaded when Python has started.
"""

from __future__ import annotations

import os
import sys

# The exit code of Ctrl-C, by the convention of shells.
INTERRUPTED = 130
SENTENCE = "bench: interrupted; the same command resumes"


def end_quietly_from_now_on() -> None:
    """Have Ctrl-C end this process at once, with the usual sentence: what is left is the clean-up of libraries.

    Python would end it by the signal, perhaps with a traceback. Where Ctrl-C is ignored (of a job in the background of
    a script) it stays ignored.
    """
    import signal  # not before the current folder is off the search path

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: _end())


def _end() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError, RuntimeError):  # closed, gone, or being flushed at the moment
            continue
    say_interrupted()
    os._exit(INTERRUPTED)


def say_interrupted() -> None:
    """Print that the command was interrupted, to standard error, if it is open."""
    try:
        os.write(2, f"{SENTENCE}\n".encode())
    except OSError:  # nobody can be told
        return
