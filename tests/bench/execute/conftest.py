import os
import sys

import pytest

from tests.support.commands import in_place_of
from tests.support.outside_methods import importable, install_methods

NAMES = ("segfault", "hang", "oom", "grow", "nan", "raises", "exits", "killed_once", "lost_once", "slow", "crawls")


@pytest.fixture
def site(tmp_path):
    """A folder of outside packages with methods that go wrong."""
    return install_methods(tmp_path / "site", "misbehaving", NAMES)


@pytest.fixture
def arguments(tiny_data, tiny_model, tmp_path):
    """Return the arguments of a `bench run` on the tiny model."""

    def make(methods, *more, seeds="1", steps=8):
        settings = [f"train.{value}" for value in (f"max_steps={steps}", "max_length=32", "checkpoint_steps=2")]
        common = {"--suite": "mini", "--tasks": "glue/sst2", "--methods": methods, "--seeds": seeds}
        places = {"--model": tiny_model, "--data-root": tiny_data, "--out": tmp_path / "store"}
        return ["run", *map(str, in_place_of({**common, **places}, settings, more))]

    return make


@pytest.fixture
def run_here(arguments, bench, site):
    """Call `bench run` in this process. Its runs have their own processes, of a server that the tests share."""
    with importable(site, "misbehaving"):
        yield lambda *more, **options: bench(*arguments(*more, **options))


@pytest.fixture
def command(arguments, site):
    """Return a `bench run` as the arguments of a process, and its environment."""

    def make(*more, **options):
        return [sys.executable, "-m", "parbench.bench", *arguments(*more, **options)]

    make.environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return make
