"""A command that takes a while prints what it does from the start, to standard error."""

import subprocess
import sys

import pytest

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.tasks.data.lock import RevisionLock


def test_each_fit_is_announced_once_before_it_is_made(tiny_model, tiny_data, tmp_path):
    overrides = Overrides(
        methods=("lora", "bitfit"),
        tasks=("glue/sst2",),
        base_model=str(tiny_model),
        seeds=(1, 2, 3),
        sets=("train.max_length=32",),
        data_root=tiny_data,
        budgets="1k,2k",
    )
    message = []
    make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json"), message.append)
    # Of a method of fixed size nothing depends on the budget.
    assert message == [
        "fitting lora to 1k on glue/sst2",
        "checking bitfit on tiny-bert",
        "fitting lora to 2k on glue/sst2",
    ]


def test_budget_announces_its_methods_and_prints_its_table_alone(bench):
    result = bench("budget", "--model", "roberta-base", "--budget", "24k", "--methods", "lora,loca")
    assert [line for line in result.err.splitlines() if "counting" in line] == [
        "bench: counting lora (1 of 2)",
        "bench: counting loca (2 of 2)",
    ]
    assert "counting" not in result.out


# Runs a command up to the import of torch, and says whether the server that runs are forked from is there by then.
UP_TO_TORCH = """
import os, sys
from multiprocessing import forkserver
class Stop(Exception): ...
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch": raise Stop
sys.meta_path.insert(0, Finder())
cores = set(range(int(sys.argv[1])))
os.sched_getaffinity = lambda process: cores
sys.argv = ["bench", *sys.argv[2:]]
from parbench.bench.cli import main
try: main()
except Stop: print(forkserver._forkserver._forkserver_pid is not None)
"""


def up_to_torch(command, cores=2):
    arguments = [sys.executable, "-c", UP_TO_TORCH, str(cores), *command.split()]
    return subprocess.run(arguments, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["run", "plan", "tune", "budget --model bert-tiny --budget 1k"])
def test_the_first_line_comes_before_the_libraries(command):
    done = up_to_torch(command)
    assert done.stderr.splitlines()[0] == "bench: loading torch and transformers", done.stderr


@pytest.mark.parametrize(
    ("command", "cores", "starts"),
    [
        ("run", 2, True),
        ("tune", 2, True),
        ("run", 1, False),
        ("run --dry-run", 2, False),
        ("tune --dry-run", 2, False),
        ("run --no-isolate", 2, False),
        ("run --executor slurm", 2, False),
        ("plan", 2, False),
    ],
)
def test_processes_load_them_at_the_same_time_where_there_will_be_some(command, cores, starts):
    done = up_to_torch(command, cores)
    assert done.stdout.split() == [str(starts)], done.stderr
