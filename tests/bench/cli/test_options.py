"""Options that contradict each other or have no effect, and how a dry run distinguishes runs."""

import dataclasses
import enum
import json
import re
import shlex
import typing
from pathlib import Path

import pytest
import typer
from rich.console import Console

from parbench.bench.cli import app
from parbench.bench.cli.available_model import find_available_model
from parbench.bench.cli.console import counted
from parbench.bench.cli.dry_run import differences
from parbench.bench.cli.execution import make_executor
from parbench.bench.cli.forecast_table import _print
from parbench.bench.cli.options import ClusterOptions, ExecutionOptions, ProcessOptions
from parbench.bench.forecast.calibration import Calibration
from parbench.bench.forecast.forecast import Forecast, RunForecast
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_spec import RunSpec
from parbench.bench.util.errors import UserError


@pytest.mark.parametrize(
    ("execution", "cluster", "complaint"),
    [
        ({"time_limit": 0.0}, {}, "--time-limit is 0 minutes; give more than 0"),
        ({"time_limit": -3.0}, {}, "--time-limit is -3 minutes"),
        ({"time_limit": float("nan")}, {}, "--time-limit is nan minutes"),
        ({"silence_limit": 0.0}, {}, "--silence-limit is 0 minutes"),
        ({"silence_limit": 5.0, "isolate": False}, {}, "--silence-limit and --memory-limit need processes"),
        ({"retries": -1}, {}, "--retries is -1; give a number of at least 0"),
        ({"workers": 0}, {}, "--workers is 0; give a number of at least 1"),
        ({}, {"address": "auto"}, "--address goes with --executor ray, not with local"),
        ({}, {"cpus_per_run": 2}, "--cpus-per-run goes with --executor ray or slurm, not with local"),
        ({}, {"executor": "ray", "partition": "long"}, "--partition goes with --executor slurm, not with ray"),
        ({}, {"executor": "ray", "job_minutes": 5}, "--job-minutes goes with --executor slurm, not with ray"),
        ({}, {"executor": "slurm", "address": "auto"}, "--address goes with --executor ray, not with slurm"),
        ({}, {"executor": "slurm", "runs_per_job": 0}, "--runs-per-job is 0; give a number of at least 1"),
        ({}, {"executor": "slurm", "gpus_per_run": float("nan")}, "--gpus-per-run is nan"),
        ({"device": "cpu"}, {"executor": "slurm"}, "--executor slurm chooses devices"),
    ],
)
def test_options_that_contradict_each_other_are_refused(execution, cluster, complaint):
    with pytest.raises(UserError, match=complaint):
        make_executor(ExecutionOptions(**execution), ClusterOptions(**cluster))


def test_limits_are_as_given_or_an_hour_of_silence():
    limits = make_executor(ExecutionOptions(device="cpu", time_limit=2.5)).options
    assert (limits.minutes, limits.silent_minutes) == (2.5, 60.0)
    assert make_executor(ExecutionOptions(device="cpu", silence_limit=3.0)).options.silent_minutes == 3.0


def test_the_same_options_give_the_same_executor_by_any_group():
    """`plan` and `tune` have fewer options than `run`; those that they have mean the same."""
    executor = make_executor(ProcessOptions(device="cpu", workers=2, retries=3))
    assert executor == make_executor(ExecutionOptions(device="cpu", workers=2, retries=3))
    assert executor.options.retries == 3


def described(command, name="bench"):
    """Return the options of every command: names, type or choices, default."""
    options = {
        " ".join([*option.opts, *option.secondary_opts]): "; ".join(
            [
                kind(option.type_descriptor.annotation),
                f"default {option.default}",
                *(word for word in ("required", "multiple") if getattr(option, word, False)),
            ]
        )
        for option in command.params
    }
    found = {name: options}
    for inner, of_group in getattr(command, "commands", {}).items():
        found |= described(of_group, f"{name} {inner}")
    return found


def kind(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "|".join(entry.value for entry in annotation)
    return str(annotation) if typing.get_origin(annotation) else annotation.__name__


def test_every_command_has_the_options_that_it_always_had():
    """Scripts rely on them: an option is added to the list, and taken from it, on purpose only."""
    stored = json.loads((Path(__file__).parent / "options.json").read_text(encoding="utf-8"))
    assert described(typer.main.get_command(app)) == stored


@pytest.mark.parametrize("command", ["run", "tune", "report"])
def test_help_starts_with_examples_that_can_be_parsed(bench, command):
    text = bench(command, "--help").out
    head = text[: text.index("Options")]
    examples = re.findall(r"^ *bench (.*?) *$", head, re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        name, *arguments = shlex.split(example)
        parsed = typer.main.get_command(app).commands[name]
        parsed.make_context(name, arguments, resilient_parsing=False)


def test_runs_are_counted_in_words():
    assert [counted(number, "run") for number in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]


SPEC = RunSpec(
    "mini", True, "strict", "glue/sst2", "minilm-l6", "lora", {"r": 8, "alpha": 16}, {"max_steps": 6}, None, 1,
    None, "package", "d", "m", "c", "t", "h",
)  # fmt: skip


def changed(**changes):
    return dataclasses.replace(SPEC, **changes)


def test_a_dry_run_distinguishes_runs_of_one_method():
    assert differences([SPEC, changed(seed=2), changed(method="loca", setting={"n": 4})]) == ["", "", ""]
    assert differences([SPEC, changed(setting={"r": 4, "alpha": 16})]) == ["r=8", "r=4"]
    assert differences([SPEC, changed(repeat=1)]) == ["repeat=0", "repeat=1"]
    assert differences([SPEC, changed(train_fraction=0.5)]) == ["train-fraction=1.0", "train-fraction=0.5"]
    # A method has another size for each budget, which the column of budgets shows.
    assert differences([SPEC, changed(budget={"asked": "1k"}, setting={"r": 1, "alpha": 16})]) == ["", ""]


def unreachable(monkeypatch):
    """Cut the hub off: the model is in no cache either."""
    import httpx2
    from huggingface_hub import HfApi

    def refuse(*arguments, **options):
        raise httpx2.ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *arguments: None)


@pytest.mark.parametrize("command", [["budget", "--budget", "4k"], ["profile", "--random-weights"]])
def test_a_hub_that_cannot_be_reached_is_reported_immediately(bench, monkeypatch, command):
    unreachable(monkeypatch)
    result = bench(*command, "--model", "nobody/has-this", "--methods", "lora")
    assert result.code == 2
    assert "nobody/has-this is not in the local cache and the hub cannot be reached; correct the name" in result.err


def test_a_shape_that_is_known_needs_no_hub(monkeypatch):
    unreachable(monkeypatch)
    assert find_available_model("roberta-base", weights=False).name == "roberta-base"
    with pytest.raises(UserError, match="the hub cannot be reached"):
        find_available_model("roberta-base", weights=True)
    assert find_available_model("bert-tiny", weights=True).name == "bert-tiny"


def test_a_profile_that_could_not_be_written_is_not_measured(bench, tiny_model, tmp_path):
    (tmp_path / "taken").write_text("a file")
    result = bench("profile", "--model", tiny_model, "--methods", "lora", "--seq", 8, "--out", tmp_path / "taken")
    assert result.code == 2
    assert f'cannot write to "{tmp_path / "taken"}": File exists' in result.err


def test_a_step_is_not_measured_on_more_tokens_than_the_model_takes(bench, tiny_model):
    result = bench("budget", "--model", tiny_model, "--budget", "1ms", "--match", "step-time", "--seq", 9999)
    assert result.code == 2
    assert "--seq is 9999, and" in result.err


COST = Calibration(0.02, 0.001, 5.0, 10, 2**30, None, 0, 0, 0, "now")


def told(*estimates):
    console = Console(width=160, record=True)
    _print(Forecast(list(estimates), done=0, workers=1), console)
    return console.export_text()


def estimate(spec, **changes):
    run = PlannedRun(spec, None, None)
    return RunForecast(run, **{"steps": 6, "seconds": 90.0, "calibration": COST, **changes})


def test_a_forecast_has_a_row_for_each_size():
    rows = told(estimate(SPEC), estimate(changed(seed=2)), estimate(changed(setting={"r": 400, "alpha": 16})))
    assert re.search(r"glue/sst2 +lora \(r=8\) +2 ", rows)
    assert re.search(r"glue/sst2 +lora \(r=400\) +1 ", rows)
    budgets = [changed(budget={"asked": asked}) for asked in ("1k", "2k")]
    assert re.search(r"lora within 1k +1 (.|\n)*lora within 2k +1 ", told(*map(estimate, budgets)))


def test_what_cannot_be_estimated_is_not_counted_as_nothing():
    failed = estimate(changed(method="poly"), calibration=None, failure="error, it cannot")
    assert "1.00 GiB of memory; 0.0 MiB of disk without the 1 run that cannot be estimated" in told(
        estimate(SPEC), failed
    )
    alone = told(failed)
    assert "their cost cannot be estimated" in alone
    assert "GiB" not in alone


def test_a_home_is_found_though_the_shell_did_not(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f'"{tmp_path}/store" is not a store' in bench("status", "--out=~/store").err
    assert "Invalid value for '--out'" in bench("status", "--out=~nobody-of-this-name/store").err


@pytest.mark.parametrize("arguments", [["status", "--out", ""], ["run", "--data-root", ""], ["profile", "--out", ""]])
def test_an_empty_path_is_not_the_working_folder(bench, arguments):
    result = bench(*arguments, *(["--model", "bert-tiny"] if arguments[0] == "profile" else []))
    assert result.code == 2
    assert f"Invalid value for '{arguments[1]}': is empty; name a folder, or leave it out" in result.err
