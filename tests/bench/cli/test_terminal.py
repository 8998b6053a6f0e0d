import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parbench.bench.cli.terminal import check_arguments, print_anything
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from tests.support.paths import SOURCE


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "parbench.bench", *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        timeout=100,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_every_encoding_of_a_terminal_takes_what_is_printed(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    print_anything()
    print("81.2 ± 0.5 — ≥ 80 … é 😀 \udcff")  # noqa: T201
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert "81.2" in text
    assert "80" in text
    if encoding == "ascii":
        assert text == "81.2 +/- 0.5 - >= 80 ... \\xe9 \\U0001f600 \\udcff\n"
    if encoding == "utf-8":
        assert text == "81.2 ± 0.5 — ≥ 80 … é 😀 \\udcff\n"


def test_names_that_are_not_text_are_refused_before_anything_is_done(tmp_path):
    check_arguments(["--out", "café"])
    done = bench("status", "--out", os.fsencode(tmp_path) + b"/caf\xe9")
    assert done.returncode == 2
    assert b"caf\\xe9" in done.stderr
    assert b"is not text in UTF-8" in done.stderr


def test_nor_is_the_folder_that_a_store_is_in(tmp_path, monkeypatch):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r'caf\\xe9/results" of the records has a name that is not text in UTF-8'):
        Store(Path("results"))


@pytest.mark.parametrize(
    "arguments", [("--help",), ("run", "--help"), ("list", "methods"), ("status", "--out", "nothing")]
)
def test_commands_under_an_encoding_without_dashes(arguments):
    done = bench(*arguments, PYTHONIOENCODING="ascii")
    assert b"Traceback" not in done.stderr
    assert done.returncode == (2 if arguments[0] == "status" else 0)


def test_a_closed_output_takes_everything():
    command = "[sys.executable, '-m', 'parbench.bench', 'list', 'tasks']"
    code = f"import os, sys; os.close(1); os.execv(sys.executable, {command})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_is_full_is_one_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "parbench.bench", "list", "tasks"],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=100,
        )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("bench: standard output cannot be written to (No space left on device)")
