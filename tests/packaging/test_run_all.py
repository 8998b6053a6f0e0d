"""What run_all.sh says without setting anything up."""

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "run_all.sh"


def called_with(argument):
    return subprocess.run(["bash", str(SCRIPT), argument], capture_output=True, text=True, check=False)


def test_help_names_the_commands():
    done = called_with("--help")
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines()[2:]] == ["test", "check"]


def test_another_argument_is_refused_in_a_sentence():
    done = called_with("tests")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'run_all.sh: "tests" is none of run, test, check\n'
