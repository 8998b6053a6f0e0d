"""Ctrl-C before and after what a command does ends it as Ctrl-C during it does."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A test run in the background has inherited that Ctrl-C is ignored.
BEGIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "import atexit, os, signal, sys, time; sys.argv = ['bench', '--version']; import parbench.bench.__main__ as bench;"
)
CTRL_C = "os.kill(os.getpid(), signal.SIGINT)"
END = "bench.main()"


def ended(*statements: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", "\n".join((BEGIN, *statements, END))], capture_output=True, text=True)


@pytest.mark.parametrize(
    "when",
    [
        f"bench.leave_current_folder = lambda: {CTRL_C}",  # before and in the imports
        f"import parbench.bench.cli as cli; cli.main = lambda: {CTRL_C}",  # when the command itself has ended
        f"atexit.register(lambda: ({CTRL_C}, time.sleep(10)))",  # in the clean-up of libraries
    ],
)
def test_ctrl_c_is_one_sentence_and_its_code_at_any_time(when: str) -> None:
    found = ended(when)
    assert (found.returncode, found.stderr) == (130, "bench: interrupted; the same command resumes\n")


def test_what_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    found = ended("signal.signal(signal.SIGINT, signal.SIG_IGN)", f"atexit.register(lambda: {CTRL_C})")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("parbench ")


def test_what_was_printed_is_not_lost() -> None:
    assert ended(f"atexit.register(lambda: ({CTRL_C}, time.sleep(10)))").stdout.startswith("parbench ")
