"""The Python API: the same runs as the command line makes, as pandas objects."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import parbench
from parbench.bench.cli.options import ComparisonOptions, ExecutionOptions, ScoringOptions
from parbench.bench.cli.python_values import option_values
from parbench.bench.store.store import Store
from parbench.bench.train.protocol import Protocol

HEAVY = ("torch", "transformers", "peft", "pandas", "matplotlib", "datasets", "typer", "rich")


def small(tiny_model, tiny_data, out, **changes):
    """Return the arguments of a run of seconds."""
    sets = {"train.max_steps": 6, "train.max_length": 32}
    common = {"suite": "mini", "tasks": ["glue/sst2"], "model": tiny_model, "data_root": tiny_data, "sets": sets}
    return {**common, "methods": ["lora"], "seeds": [1, 2, 3], "isolate": False, "device": "cpu", "out": out, **changes}


@pytest.fixture(scope="module")
def results(tiny_model, tiny_data, tmp_path_factory):
    """Two methods and three seeds, by the Python API."""
    out = tmp_path_factory.mktemp("api") / "store"
    return parbench.run(**small(tiny_model, tiny_data, out, methods=["lora", "bitfit"]))


def test_importing_parbench_is_light():
    code = f"import sys, parbench\nprint(parbench.__version__, [name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{parbench.__version__} []\n"


def test_a_run_returns_its_runs_as_a_frame(results):
    assert sorted(results[["method", "seed"]].itertuples(index=False, name=None)) == [
        (method, seed) for method in ("bitfit", "lora") for seed in (1, 2, 3)
    ]
    assert (results["status"] == "ok").all()
    assert results["score"].between(0, 1).all()


def test_the_command_line_makes_the_same_runs(results, bench_run):
    again = bench_run("--device", "cpu", "--out", results.folder, methods="lora", seeds="1,2,3")
    assert "3 of 3 runs are done already" in again.out


def test_what_is_in_the_store_is_not_repeated_and_other_runs_are_left_out(results, tiny_model, tiny_data):
    before = {record.run_id: record for record in Store(results.folder).scan()}
    lora = parbench.run(**small(tiny_model, tiny_data, results.folder))
    assert set(lora["method"]) == {"lora"}
    assert {record.run_id: record for record in Store(results.folder).scan()} == before
    pd.testing.assert_frame_equal(pd.DataFrame(parbench.load(results.folder)), pd.DataFrame(results))


def test_per_example_rows_bear_out_the_scores(results):
    rows = results[results["method"] == "lora"].examples()
    assert set(rows["seed"]) == {1, 2, 3}
    assert (rows.groupby("run_id").size() == 60).all()
    correct = (rows["prediction"] == rows["label"]).groupby(rows["run_id"]).mean()
    scores = results.set_index("run_id")["score"]
    np.testing.assert_allclose(correct, scores[correct.index], rtol=1e-12)


def test_the_leaderboard_has_the_means_of_the_runs(results):
    board = parbench.leaderboard(results).set_index("method")
    means = pd.DataFrame(results).groupby("method")["score"].mean()
    np.testing.assert_allclose(board["mean"].astype(float).loc[means.index], means, rtol=1e-12)
    assert list(parbench.leaderboard(results[results["method"] == "lora"])["method"]) == ["lora"]
    with pytest.raises(parbench.UserError, match=r"parbench\.load"):
        parbench.leaderboard(pd.DataFrame(results))
    with pytest.raises(parbench.UserError, match="select rows, and not columns"):
        parbench.leaderboard(results[["method", "run_id"]])
    with pytest.raises(parbench.UserError, match="the folder of a store, and not 3"):
        parbench.load(3)


def test_a_notebook_shows_the_main_columns_and_escapes_them(results):
    shown = results.assign(row="<b>lora</b>")._repr_html_()
    assert "&lt;b&gt;lora&lt;/b&gt;" in shown
    assert "<th>score</th>" in shown
    assert "run_id" not in shown
    assert "run_id" in results[["run_id", "seed"]]._repr_html_()


def test_refused_records_are_named(results, tmp_path):
    shutil.copytree(results.folder, tmp_path / "copy")
    record = tmp_path / "copy" / "runs" / results["run_id"][0] / "record.json"
    record.write_text(record.read_text()[:100])
    with pytest.warns(UserWarning, match=f"left out: .*{results['run_id'][0]}"):
        assert len(parbench.load(tmp_path / "copy")) == len(results) - 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"methods": "lorra"}, 'there is no method called "lorra"; did you mean "lora"?'),
        ({"methods": ["lora,dora"]}, "one value per item"),
        ({"seeds": [1.5]}, "are not comma-separated whole numbers"),
        ({"seeds": []}, "--seeds is empty"),
        ({"protocol": "strickt"}, "protocol is 'strickt'.*give one of strict"),
        ({"workers": "2"}, "workers is '2'; give a whole number"),
        ({"retention": 1}, "retention is 1; give True or False"),
        ({"sets": {"lora.r": {1}}}, "sets: .* not JSON serializable"),
        ({"sets": 3}, "give a mapping"),
        ({"out": ""}, "out: is empty"),
        ({"out": 3}, "out is 3; give the path of a folder"),
        ({"suite": None}, "suite is None"),
        ({"worker": 2}, 'no option "worker"; did you mean "workers"?'),
        ({"dry_run": True}, 'no option "dry_run"'),
        ({"lr": 1e-3}, r'no option "lr"; give it as sets=\{"METHOD.learning_rate": VALUE\}'),
        ({"num_train_epochs": 2}, r'no option "num_train_epochs"; give it as sets=\{"train.epochs": VALUE\}'),
        ({"output_dir": "mine"}, 'no option "output_dir"; did you mean "out"?'),
        ({"device": "banana"}, '"banana"'),
    ],
)
def test_a_mistake_is_one_sentence(arguments, complaint, tiny_model, tiny_data, tmp_path):
    with pytest.raises(parbench.UserError, match=complaint):
        parbench.run(**small(tiny_model, tiny_data, **{"out": tmp_path / "store", **arguments}))


def test_a_folder_without_runs_is_a_mistake(tmp_path):
    with pytest.raises(parbench.UserError, match="no runs"):
        parbench.load(tmp_path)


def test_python_values_are_those_of_the_command_line(tmp_path):
    values = {
        "methods": ["lora(r=4,alpha=8)", "loca"],
        "tasks": [tmp_path / "a.yaml"],
        "seeds": range(1, 4),
        "budget": 24000,
        "sets": {
            "lora": {"r": 4},
            "train.schedule": "cosine",
            "loca.targets": ["q"],
            "loha.rank_pattern": {"k": 2},
        },
        "out": "~/results",
    }
    assert option_values(ComparisonOptions, values) == {
        "methods": "lora(r=4,alpha=8),loca",
        "tasks": f"{tmp_path}/a.yaml",
        "seeds": "1,2,3",
        "budget": "24000",
        "sets": ["lora.r=4", "train.schedule=cosine", 'loca.targets=["q"]', 'loha.rank_pattern={"k": 2}'],
        "out": Path.home() / "results",
    }
    assert option_values(ScoringOptions, {"protocol": "strict", "train_fraction": [0.1, 1]}) == {
        "protocol": Protocol.STRICT,
        "train_fraction": "0.1,1",
    }
    assert option_values(ExecutionOptions, {"workers": np.int64(2), "time_limit": 3}) == {
        "workers": 2,
        "time_limit": 3.0,
    }


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_isolated(tiny_model, tiny_data, tmp_path):
    arguments = small(str(tiny_model), str(tiny_data), str(tmp_path / "store"), isolate=True, seeds=[1])
    script = tmp_path / "script.py"
    script.write_text(
        f"import parbench\nprint('started')\nresults = parbench.run(**{arguments!r})\nprint(list(results['status']))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1
    assert done.stdout.splitlines()[-1] == "['ok']"
