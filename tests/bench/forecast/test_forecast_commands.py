"""What the commands print of a forecast before anything is trained."""

import shutil
from types import SimpleNamespace

import psutil
import pytest

from parbench.bench.cli.forecast_table import duration, machine_of
from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.forecast.calibration import Machine
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError


def test_the_machine_is_that_of_the_executor():
    found = machine_of(LocalExecutor(("cuda:0", "cuda:1", "cuda:0"), RunOptions(threads=2)))
    assert found == Machine("cuda:0", workers=3, threads=2)


def test_durations_in_words():
    assert [duration(seconds) for seconds in (12.4, 600, 36000)] == ["12 s", "10 min", "10.0 h"]


SUM = "about 2 min; at least 1.00 GiB of memory; 0.0 MiB of disk"


def test_the_command_prints_the_sum(bench, calibrated):
    text = bench("plan", "--seeds", "1,2")
    assert "2 runs to do" in text
    assert SUM in text


def test_the_command_prints_what_tuning_takes_apart_from_the_runs(bench, calibrated):
    text = " ".join(bench("plan", "--seeds", "1,2", "--methods", "lora,linear_probe", "--budget", "500,1k").split())
    # The linear probe has no budget. Of one task its table would say what the sum says.
    assert "6 runs to do" in text
    assert "time of tuning" not in text
    # 100 steps of half a second, and no reported rows: 60 s each, 16 of each of three.
    assert (
        "8 trials of 2 seeds for each of 3 methods, tasks and budgets that are not tuned yet: 48 runs, about 48 min "
        '(bench tune --trials 8 --selection-seeds 1001,1002 --budget "500", and '
        'bench tune --trials 8 --selection-seeds 1001,1002 --budget "1k", with this command\'s other options)'
    ) in text
    assert "6 runs, about 6 min" in " ".join(bench("plan", "--methods", "lora", "--trials", "3").split())


def test_the_command_prints_runs_and_time_of_each_task(bench, calibrated, tiny_data, tmp_path):
    root = tmp_path / "two"
    for name in ("sst2", "cola"):
        shutil.copytree(tiny_data / "glue-sst2", root / f"glue-{name}")
    text = bench("plan", "--seeds", "1,2", "--tasks", "glue/sst2,glue/cola", "--trials", "1", "--data-root", str(root))
    lines = [line.split() for line in text.splitlines() if line.startswith("glue/")][-2:]
    # Two runs of 75 seconds, and two trial runs of 60, which score no reported rows.
    times = ["2", "2", "min", "2", "2", "min"]
    assert lines == [["glue/sst2", *times], ["glue/cola", *times]]


def test_a_dry_run_prints_what_is_known_and_trains_nothing(bench, calibrated):
    text = bench("run", "--seeds", "1,2", "--dry-run")
    assert "2 runs: their cost is not measured yet (lora on glue/sst2): bench plan measures a few steps" in text
    assert calibrated == []
    bench("plan")
    text = bench("run", "--seeds", "1,2", "--dry-run")
    assert "2 runs to do" in text
    assert SUM in text
    assert len(calibrated) == 1


def test_a_dry_run_names_few_of_many_kinds(bench, calibrated):
    text = bench("run", "--seeds", "1", "--methods", "lora,bitfit,dora,vera,full", "--dry-run")
    assert "5 runs: " in text
    assert "(lora on glue/sst2, bitfit on glue/sst2, dora on glue/sst2, vera on glue/sst2, ...)" in text


def test_a_dry_run_counts_what_would_be_done_again(bench, calibrated, monkeypatch):
    bench("plan")
    monkeypatch.setattr(Store, "is_done", lambda self, run_id: True)
    text = bench("run", "--seeds", "1,2", "--dry-run")
    assert "0 runs to do; 2 already done or skipped" in text
    text = bench("run", "--seeds", "1,2", "--dry-run", "--overwrite", "always")
    assert "2 runs to do" in text
    assert SUM in text


def test_a_dry_run_of_a_tuning_counts_all_trials(bench, calibrated):
    arguments = ("--trials", "3", "--selection-seeds", "11,12", "--dry-run")
    assert "6 runs: their cost is not measured yet" in bench("tune", *arguments)
    bench("plan")
    text = bench("tune", *arguments)
    assert "6 runs to do" in text
    # 100 steps, and no reported rows.
    assert "about 6 min" in text
    assert "about 6 min" in bench("run", "--trials", "3", "--dry-run")
    assert len(calibrated) == 1


def test_a_dry_run_of_what_cannot_fit_is_refused(bench, calibrated, monkeypatch):
    bench("plan")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1 << 29))
    for command in (("run",), ("tune", "--trials", "2")):
        # Other memory is other hardware, and calibrated again.
        bench("plan", complaint="cannot be done here")
        bench(*command, "--dry-run", complaint="1 runs at a time need 1.00 GiB of memory")


def test_there_is_no_forecast_for_a_cluster(planned, store):
    from rich.console import Console

    from parbench.bench.cli.forecast_table import print_known_forecast

    console = Console(width=160, record=True)
    print_known_forecast(planned(seeds=(1, 2)), store, object(), console)
    assert "2 runs: their cost on the cluster is not known here" in console.export_text()


@pytest.fixture
def bench(tiny_model, tiny_data, tmp_path, monkeypatch):
    import typer
    from typer.testing import CliRunner

    from parbench.bench.cli.plan import plan
    from parbench.bench.cli.run import run
    from parbench.bench.cli.tune import tune

    monkeypatch.setenv("COLUMNS", "160")
    app = typer.Typer()
    for command in (plan, run, tune):
        app.command()(command)

    def call(command, *arguments, complaint=None):
        common = ["--suite", "mini", "--tasks", "glue/sst2", "--model", str(tiny_model), "--device", "cpu"]
        common += ["--data-root", str(tiny_data), "--set", "train.max_length=32", "--set", "train.max_steps=100"]
        common += ["--out", str(tmp_path / "store")]
        common += [] if "--methods" in arguments else ["--methods", "lora"]
        # The default is the machine's cores.
        common += ["--workers", "1"]
        result = CliRunner().invoke(app, [command, *common, *arguments])
        if complaint is None:
            assert result.exit_code == 0, (result.output, result.exception)
        else:
            assert isinstance(result.exception, UserError)
            assert complaint in str(result.exception)
        return result.output

    return call
