"""A message about kernels that are not used is left out, and no other of that library."""

from __future__ import annotations

import logging
import subprocess
import sys

from parbench.bench.util import kernel_messages

SAID = "import parbench, logging; logging.getLogger('bitsandbytes.backends.cpu.ops').warning({!r}, 'no module')"


def shown(message: str) -> str:
    done = subprocess.run([sys.executable, "-c", SAID.format(message)], capture_output=True, text=True, check=True)
    return done.stderr


def test_the_message_is_left_out() -> None:
    assert shown("Failed to load CPU gemm_4bit_forward from kernels-community: %s.") == ""


def test_other_messages_are_shown() -> None:
    assert shown("Failed to load the native library: %s.") == "Failed to load the native library: no module.\n"


def test_it_is_installed_once() -> None:
    filters = logging.getLogger(kernel_messages._LOGGER).filters
    before = list(filters)
    kernel_messages.install()
    assert filters == before
    assert len(before) == 1
