"""`bench recommend` on planted stores, on empty ones, and with arguments that cannot be used."""

import re
import shlex

import pytest
import typer

from parbench.bench.cli import app
from parbench.bench.store.archive import export
from parbench.bench.store.store import Store
from parbench.reports.recommend import stores
from tests.support.planter import Planter
from tests.support.shares import plant_shares

COSTS = {"lora": (50.0, 2.0**30, 1536), "loca": (100.0, 2.0**30, 1536), "linear_probe": (25.0, 2.0**30, 0)}
SETTINGS = {
    "lora": {"r": 2, "alpha": 2.0, "learning_rate": 0.002},
    "loca": {"n_frequency": 40, "learning_rate": 0.01},
    "linear_probe": {"head_learning_rate": 0.01},
}
TEXT = ("glue/rte", "glue/qnli", "glue/wnli", "glue/qqp", "glue/cola", "glue/mrpc")


def plant(folder, shares, tasks, **spec):
    store = Store(folder)
    store.prepare()
    training = {"max_steps": 100, "batch_size": 8, "max_length": 24}
    for method, share in shares.items():
        own = {"setting": SETTINGS[method], "training": training, "base_model": "tiny-bert", **spec}
        plant_shares(Planter(store), {method: share}, tasks, costs=COSTS, **own)
    return store


@pytest.fixture(autouse=True)
def _no_studies(monkeypatch, tmp_path):
    """Published studies are what the tests publish."""
    monkeypatch.setattr(stores, "STUDIES", tmp_path / "studies")
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ask(bench, tiny_model):
    def call(*arguments, task="glue/sst2"):
        return bench("recommend", "--model", tiny_model, "--task", task, *arguments)

    return call


def table(text):
    """Return the cells of each method's line."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    return {cells[0]: cells[1:] for cells in lines if cells[0] in SETTINGS and len(cells) > 4}


def test_a_task_that_was_run_is_answered_from_it(ask, tmp_path):
    store = plant(tmp_path / "store", {"lora": 0.1, "loca": 0.1, "linear_probe": 0.3}, ["glue/sst2"])
    result = ask("--store", store.root)
    assert result.code == 0, result.err
    found = table(result.out)
    # loca is level with lora at twice the time; the probe is worse and cheaper.
    assert set(found) <= {"lora", "loca", "linear_probe"}
    assert {"lora", "linear_probe"} <= set(found)
    assert "1.00 (500 ms)" in found["lora"]
    assert "0.50 (250 ms)" in found["linear_probe"]
    assert "Evidence: glue/sst2 with tiny-bert: 3 methods, 4 seeds" in result.out
    assert "Cannot be told apart from" in result.out
    assert re.search(r"Shown to be worse than (lora|loca): linear_probe\.", result.out)
    assert "EXTRAPOLATED" not in result.out
    (line,) = (line for line in result.out.splitlines() if line.startswith("Begin with: "))
    name, *arguments = shlex.split(line.removeprefix("Begin with: "))[1:]
    typer.main.get_command(app).commands[name].make_context(name, arguments)


def test_what_the_evidence_had_to_leave_out_is_exit_code_1(ask, tmp_path):
    store = plant(tmp_path / "store", {"lora": 0.1, "loca": 0.1, "linear_probe": 0.3}, ["glue/sst2"])
    path = next(store.runs.glob("*/predictions.parquet"))
    path.unlink()
    result = ask("--store", store.root)
    assert result.code == 1
    assert "Evidence: glue/sst2 with tiny-bert: 3 methods" in result.out
    assert f"bench: left out of the evidence: {path} is missing" in result.err


def test_cheap_and_slightly_worse_stays_on_the_list_and_is_said_to_be_level(ask, tmp_path):
    """At half the time of a step it loses 0.5 points of 100, which no four seeds of 400 examples show."""
    store = plant(tmp_path / "store", {"lora": 0.100, "linear_probe": 0.105}, ["glue/sst2"])
    result = ask("--store", store.root)
    assert result.code == 0, result.err
    found = table(result.out)
    assert set(found) == {"lora", "linear_probe"}
    assert "0.50 (250 ms)" in found["linear_probe"]
    assert "Shown to be worse" not in result.out
    first, other = found
    assert f"Cannot be told apart from {first}, the first: {other}." in " ".join(result.out.split())


def test_a_new_task_is_extrapolated_and_says_so(ask, tmp_path):
    store = plant(tmp_path / "store", {"loca": 0.10, "lora": 0.17, "linear_probe": 0.3}, TEXT)
    result = ask("--store", store.root)
    assert result.code == 0, result.err
    assert "EXTRAPOLATED from" in result.out
    found = table(result.out)
    assert list(found) == ["loca", "lora", "linear_probe"]
    assert found["loca"][0].startswith("1.0")
    assert "~2.00" in found["loca"]
    assert "Shown to be worse than loca: linear_probe." in result.out
    assert "Cannot be told apart from loca, the first: lora." in result.out
    assert "--methods loca" in result.out


def test_a_limit_of_memory_excludes(ask, tmp_path):
    store = plant(tmp_path / "store", {"lora": 0.1, "loca": 0.2}, ["glue/sst2"])
    result = ask("--store", store.root, "--memory", "100MiB")
    assert result.code == 0
    assert "no method that is known fits into 100MiB" in result.out
    assert re.search(
        r"On base weights of fewer bits lo[rc]a would take, predicted: bfloat16 [\d.]+ [MG]iB, int8 ", result.out
    )
    assert "none of them fits; give a smaller --batch or --seq, or another --model" in result.out
    assert re.search(r"Not on the list: lora.*takes [\d.,]+ [MG]iB of memory, more than 100.0 MiB", result.out)
    assert "Begin with" not in result.out


def test_an_engine_is_joined(ask, tmp_path):
    """The sources: vLLM loads LoRA without whole modules, such as the head of a classifier."""
    store = plant(tmp_path / "store", {"lora": 0.1, "loca": 0.1, "linear_probe": 0.3}, ["glue/sst2"])
    result = ask("--store", store.root, "--engine", "VLLM")
    assert result.code == 0, result.err
    assert re.search(
        r"vLLM, by sources seen .*merged into the base model only \(the adapter has classifier whole\): lora",
        result.out,
    )
    assert re.search(
        r"vLLM, .*as an ordinary model, which bench adapter export --merged writes.*: linear_probe", result.out
    )
    assert "trained weights" not in result.out
    assert ask("--store", store.root, "--engine", "vlm").err.strip().endswith('called "vlm"; did you mean "vllm"?')


@pytest.mark.parametrize("name", ["tensorrt llm", "TENSORRT_LLM", " TensorRT-LLM "])
def test_an_engine_has_many_spellings(ask, tmp_path, name):
    store = plant(tmp_path / "store", {"lora": 0.1, "loca": 0.1}, ["glue/sst2"])
    result = ask("--store", store.root, "--engine", name)
    assert result.code == 0, result.err
    assert "TensorRT-LLM, by sources seen" in result.out


def test_rows_on_quantised_weights_are_recommended_with_their_memory_and_precision(ask, tmp_path):
    """In 4 bits the linear layers take an eighth."""
    store = plant(tmp_path / "store", {"lora": 0.1, "linear_probe": 0.3}, ["glue/sst2"])
    plain = ask("--store", store.root)
    quantised = plant(tmp_path / "nf4", {"lora": 0.1, "linear_probe": 0.3}, ["glue/sst2"], base_precision="nf4")
    result = ask("--store", quantised.root)
    assert result.code == 0, result.err
    assert "--base-precision nf4" in result.out
    assert "--base-precision" not in plain.out
    assert "Memory not known" not in result.out


def test_published_studies_are_read(ask, tmp_path):
    store = plant(tmp_path / "theirs", {"lora": 0.1, "loca": 0.3}, ["glue/sst2"])
    folder = tmp_path / "studies" / "2026-01-01-small"
    folder.mkdir(parents=True)
    export(store, folder / "records.tar.gz")
    for _ in range(2):  # the second time from the cache
        result = ask()
        assert result.code == 0, result.err
        assert "Shown to be worse than lora: loca." in result.out
        assert "2026-01-01-small" in result.out


def test_nothing_known_is_said_and_the_runs_that_would_tell_are_offered(ask, tiny_data, tmp_path):
    result = ask("--data-root", tiny_data, "--methods", "lora,linear_probe", "--memory", "100MiB")
    assert result.code == 0, result.err
    assert "There is nothing to recommend from" in result.out
    (line,) = (line for line in result.out.splitlines() if line.startswith("bench run "))
    assert "--methods lora,linear_probe --tasks glue/sst2" in line
    assert "--seeds 1,2,3" in line
    assert re.search(r"memory of lora in training: [\d.,]+ [MG]iB, predicted, more than 100.0 MiB", result.out)
    assert "6 runs: their cost is not measured yet" in result.out
    assert "Needed: to find a difference of 2" in result.out


def test_an_empty_store_is_no_error(ask, tiny_data, tmp_path):
    Store(tmp_path / "empty").prepare()
    result = ask("--store", tmp_path / "empty", "--data-root", tiny_data, "--methods", "lora,linear_probe")
    assert result.code == 0, result.err
    assert "There is nothing to recommend from" in result.out


def test_what_following_would_have_cost(bench, tmp_path):
    store = plant(tmp_path / "store", {"loca": 0.10, "lora": 0.17, "linear_probe": 0.3}, TEXT)
    result = bench("recommend", "--validate", "--store", store.root)
    assert result.code == 0, result.err
    assert "Mean regret of following the recommendation: 0.0 points" in result.out
    assert "on 0 of 6 tasks some method is shown to be better" in result.out
    assert re.search(r"Of always taking lora: \d+\.\d points \[", result.out)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "which base model? give --model"),
        (["--model", "bert-tiny"], "give one of --task, a task's name, and --data"),
        (["--model", "bert-tiny", "--task", "glue/sst2", "--data", "x.yaml"], "give one of --task"),
        (["--model", "bert-tiny", "--data", "x.csv"], "give a YAML file that describes your data"),
        (["--model", "bert-tiny", "--data", "x.yaml"], "x.yaml"),
        (["--model", "bert-tiny", "--task", "glue/sst3"], 'there is no task called "glue/sst3"'),
        (["--model", "bert-tiny", "--task", "glue"], '"glue" is a group of tasks; name one of them'),
        (["--model", "bert-tinny", "--task", "glue/sst2"], 'there is no base model called "bert-tinny"'),
        (["--model", "bert-tiny", "--task", "vision/digits"], "cannot have the head that vision/digits needs"),
        (["--model", "bert-tiny", "--task", "glue/sst2", "--memory", "much"], '"--memory much" is not a size'),
        (["--model", "bert-tiny", "--task", "glue/sst2", "--batch", "0"], "--batch is 0"),
        (["--model", "bert-tiny", "--task", "glue/sst2", "--seq", "-1"], "--seq is -1"),
        (["--model", "bert-tiny", "--task", "glue/sst2", "--store", "nowhere"], '"nowhere" is not a store'),
        (["--model", "bert-tiny", "--task", "glue/sst2", "--device", "tpu"], '"tpu" is not a device'),
        (["--validate", "--task", "glue/sst2"], "--validate takes no other option than --store"),
        (["--validate", "--store", "nowhere"], '"nowhere" is not a store'),
    ],
)
def test_arguments_that_cannot_be_used_are_one_sentence(bench, arguments, complaint):
    result = bench("recommend", *arguments)
    assert result.code == 2
    assert complaint in result.err
    assert "Traceback" not in result.err


def test_a_method_without_runs_is_named(ask, tmp_path):
    store = plant(tmp_path / "store", {"lora": 0.1, "loca": 0.2}, ["glue/sst2"])
    result = ask("--store", store.root, "--methods", "lora,lokr")
    assert result.code == 2
    assert 'there are no runs of "lokr"' in result.err
