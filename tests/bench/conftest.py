import sys
from dataclasses import dataclass

import pytest

from tests.support.commands import in_place_of


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def bench(capsys, monkeypatch):
    """Call the command line in this process."""

    def call(*arguments: object) -> Result:
        from parbench.bench.cli import main

        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def bench_run(bench, tiny_data, tiny_model, tmp_path):
    """Run a comparison on the tiny model and data, into ``tmp_path / "store"``."""

    def call(*arguments: object, methods: str = "lora,loca", seeds: str = "1") -> Result:
        small = ["train.max_steps=6", "train.max_length=32", *(["loca.n_frequency=50"] if "loca" in methods else [])]
        common = {"--suite": "mini", "--tasks": "glue/sst2", "--model": tiny_model, "--data-root": tiny_data}
        rest = {"--methods": methods, "--seeds": seeds, "--out": tmp_path / "store"}
        return bench("run", "--no-isolate", *in_place_of({**common, **rest}, small, arguments))

    return call
