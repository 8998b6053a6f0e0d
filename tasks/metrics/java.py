"""Java programs that come inside the package pycocoevalcap, run once and always ended.

The package's own wrappers are not used: they write into the package's folder, leave the program running, and wait
forever where it prints nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from parbench.bench.util.errors import UserError

# Seconds: to start and read the paraphrases of METEOR on a slow disk, and for each line. Far above what either takes: a
# program that needs more hangs.
START_SECONDS, LINE_SECONDS = 300.0, 0.05


def missing() -> str | None:
    """Return what is missing to run the programs and what to do, or ``None``."""
    found = _programs()
    return found if isinstance(found, str) else None


def run(jar: str, arguments: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return a program's output lines for lines of text.

    Args:
        jar: the program's file inside pycocoevalcap.
        arguments: of Java; ``{jar}`` stands for the file.
        lines: without line breaks.

    Raises:
        UserError: there is no Java, it failed, or it timed out.
    """
    programs = _programs()
    if isinstance(programs, str):
        raise UserError(f"{Path(jar).name} cannot be run: {programs}")
    java, folder = programs
    limit = START_SECONDS + LINE_SECONDS * len(lines)
    # Java reads UTF-8 in every locale. It gets a session of its own, so that a launcher in its place is ended
    # together with its children.
    process = subprocess.Popen(
        [java, "-Dfile.encoding=UTF-8", *(argument.format(jar=folder / jar) for argument in arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    text = "".join(f"{line}\n" for line in lines)
    try:
        out, complaints = process.communicate(text.encode("utf-8", errors="replace"), timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{Path(jar).name} gave no answer within {limit:.0f} seconds; check {java} -version, or take java off the "
            "PATH to run without METEOR, ROUGE-L and CIDEr"
        ) from error
    finally:
        _end(process)
    if process.returncode:
        # The virtual machine writes errors to either.
        output = (complaints or out).decode(errors="replace").strip().splitlines() or ["nothing"]
        raise UserError(
            f"{Path(jar).name} failed with exit code {process.returncode}; repair the Java at {java} or take it off "
            f"the PATH (its output: {output[0]})"
        )
    return out.decode(errors="replace").removesuffix("\n").split("\n")


def _programs() -> tuple[str, Path] | str:
    """Return Java and the folder of the jars, or what is missing."""
    try:
        package = importlib.metadata.distribution("pycocoevalcap")
    except importlib.metadata.PackageNotFoundError:
        return "the package pycocoevalcap is not installed; install it with pip install pycocoevalcap"
    java = shutil.which("java")
    if java is None:
        return "there is no java on the PATH; install a Java runtime"
    return java, Path(str(package.locate_file("pycocoevalcap")))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
