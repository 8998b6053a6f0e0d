import multiprocessing
import subprocess
import sys
import tempfile
from multiprocessing import util
from pathlib import Path

import pytest

from parbench.bench.util.errors import UserError
from parbench.bench.util.socket_folder import short_temporary_folder
from parbench.bench.util.started_process import start_process
from tests.support.paths import SOURCE

CODE = """
from parbench.bench.util import process_environment
from parbench.bench.util.process_environment import fork_server
from parbench.bench.util.started_process import start_process
import os, tempfile
process_environment.PRELOAD = "json"
process = fork_server().Process(target=print, args=("it runs",))
start_process(process)
process.join()
assert process.exitcode == 0
print(tempfile.gettempdir())
"""


@pytest.mark.parametrize("length", [0, 66, 112, 200])
def test_a_process_starts_whatever_the_temporary_folder_is_called(tmp_path, length):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder = folder / ("x" * (length - len(str(folder)) - 1)) if length else folder
    folder.mkdir(exist_ok=True)
    environment = {"PYTHONPATH": str(SOURCE), "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.split("\n")[:2] == ["it runs", str(folder)], done.stderr


def test_without_any_short_folder_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 112)
    assert short_temporary_folder() == Path("/tmp")  # noqa: S108
    monkeypatch.setattr("parbench.bench.util.socket_folder._SHORT_FOLDERS", ("/nowhere",))
    with pytest.raises(UserError, match="set TMPDIR to one of at most 67 characters"):
        short_temporary_folder()


class Dying:
    """A process whose server dies when it is to start."""

    pid = 2**22 - 1

    def __init__(self, deaths):
        self.deaths = deaths

    def start(self):
        if self.deaths:
            self.deaths -= 1
            raise EOFError


def test_a_server_that_dies_is_started_again_and_one_that_dies_again_and_again_is_a_sentence(monkeypatch):
    monkeypatch.setattr("parbench.bench.util.started_process.fork_server", lambda: None)
    assert start_process(Dying(2)).own is None
    with pytest.raises(UserError, match="a process cannot be started"):
        start_process(Dying(3))


def test_the_longest_folder_is_what_the_names_of_sockets_leave():
    """The names that multiprocessing appends, as it makes them."""
    folder = util.get_temp_dir()
    address = multiprocessing.connection.arbitrary_address("AF_UNIX")
    appended = len(address) - len(str(Path(folder).parent))
    assert 67 + appended <= 107


UNOBSERVED = """
from parbench.bench.util import process_environment
from parbench.bench.util.process_environment import fork_server
from parbench.bench.util.started_process import start_process
import time
process_environment.PRELOAD = "json"
ours, theirs = fork_server().Pipe()
process = fork_server().Process(target=theirs.recv)
started = start_process(process)
theirs.close()
started.server.kill()
while started.server.status() != "zombie":
    time.sleep(0.01)
process.join()
assert process.exitcode == 255
assert started.is_alive() and started.is_unobserved and started.exit_code is None
again = start_process(fork_server().Process(target=print, args=("another one runs",)))
again.process.join()
assert again.exit_code == 0 and not again.is_unobserved
started.kill()
while started.is_alive():
    time.sleep(0.01)
print("it ends")
"""


def test_a_process_whose_server_is_killed_goes_on_and_can_be_ended():
    environment = {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", UNOBSERVED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "another one runs\nit ends\n"
