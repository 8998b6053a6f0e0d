"""What the tests of Ray and of Slurm share: a command on either, and looks at its store."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from parbench.bench.store.store import Store
from tests.support import on_cluster
from tests.support.outside_methods import importable, install_methods
from tests.support.paths import SOURCE, SUPPORT

NAMES = ("killed_once", "slow", "raises", "segfault")


class Cluster:
    """Starts commands that do runs by an executor, on the tiny model, into ``folder / "store"``."""

    def __init__(self, executor, folder, data, model):
        self.executor = executor
        self.folder = folder
        self.store = Store(folder / "store")
        self._data = data
        self._model = model
        self._started = []
        self.site = install_methods(folder / "site", "misbehaving", NAMES)
        self._path = f"{self.site}{os.pathsep}{SOURCE}"

    def _arguments(self, methods, seeds="1", steps=8, limits=None, **options):
        options = json.dumps({"options": limits or {}, **options})
        settings = [f"train.{value}" for value in (f"max_steps={steps}", "max_length=32", "checkpoint_steps=2")]
        given = [self.executor, options, self.store.root, methods, seeds, self._model, self._data, *settings]
        return list(map(str, given))

    def start(self, methods, **options):
        """Start a command that does the runs."""
        process = subprocess.Popen(
            [sys.executable, SUPPORT / "on_cluster.py", *self._arguments(methods, **options)],
            env={**os.environ, "PYTHONPATH": self._path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def do(self, methods, **options):
        """Do the runs, all but the jobs in this process; return the command's exit code."""
        with importable(self.site, "misbehaving"), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", self._path)
            return on_cluster.main(*self._arguments(methods, **options))

    def end_all(self):
        for process in self._started:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()

    def records(self):
        return {(record.spec.method, record.spec.seed): record for record in self.store.scan()}

    def log(self, record):
        return [json.loads(line) for line in (self.store.runs / record.run_id / "log.jsonl").open()]

    def leases(self):
        folder = self.store.root / "leases"
        return list(folder.glob("*.json")) if folder.is_dir() else []

    def at_work(self):
        """Wait for a run to have its own process; return the processes of its lease."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for path in self.leases():
                try:
                    found = [entry["pid"] for entry in json.loads(path.read_text())["processes"]]
                except FileNotFoundError:
                    continue
                if len(found) == 2:
                    return found
            time.sleep(0.05)
        raise AssertionError("no run began")

    def workspace(self):
        """Wait for a run that has saved a checkpoint; return its folder."""
        wait_for(lambda: list(self.store.work.glob("*/checkpoint-*/complete.json")))
        return next(self.store.work.iterdir())


def wait_for(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.05)
