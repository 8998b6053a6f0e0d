"""What runs of LoRA-Gen leave: adapters that peft loads, of the size of LoRA's, that beat the untouched edge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from parbench.bench.models.catalogue import SMOLLM2_135M
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.lora_gen import LoraGen
from parbench.methods.testing import TINY_MODELS
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.commonsense.task import COMMONSENSE
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.system_prompt import split_system_prompt
from tests.support.data import fetched
from tests.support.lora_gen_options import sets
from tests.support.tiny_llama import byte_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(
    plan_lora_gen: Callable[..., PlannedRun], tmp_path_factory: pytest.TempPathFactory
) -> tuple[PlannedRun, Path, Any]:
    run, store = plan_lora_gen(), Store(tmp_path_factory.mktemp("finished"))
    store.prepare()
    record = execute_run(run, store, DataCache(), CPU)
    assert record.status == "ok", (store.runs / record.run_id / "error.txt").read_text()
    return run, store.runs / record.run_id, record


def test_the_issue_of_the_command_line(bench: Any, tmp_path: Path, sets_root: Path, llama_folder: Path) -> None:
    small = [part for each in sets() for part in ("--set", each)]
    result = bench(
        "run", "--no-isolate", "--suite", "mini", "--methods", "lora,lora_gen", "--tasks", "commonsense", "--seeds", 1,
        "--model", llama_folder, "--data-root", sets_root, "--out", tmp_path / "store", *small,
    )  # fmt: skip
    assert result.code == 0, result.err
    records = {record.spec.method: record for record in Store(tmp_path / "store").scan()}
    assert {method: record.status for method, record in records.items()} == {"lora": "ok", "lora_gen": "ok"}
    for record in records.values():
        assert {"accuracy", "harmonic_mean", "seen_mean", "unseen_mean"} < record.metrics.keys()
        assert record.examples["reported"] == 24


def test_what_a_run_leaves(finished: tuple[PlannedRun, Path, Any]) -> None:
    _, folder, record = finished
    names = {part.name for part in SETS}
    assert {path.name for path in (folder / "adapter" / "delivered").iterdir()} == names
    gates = json.loads((folder / "adapter" / "gates.json").read_text())
    assert gates.keys() == names
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert predictions["subset"].value_counts().to_dict() == dict.fromkeys(names, 3)
    assert list(predictions["subset"].unique()) == [part.name for part in SETS]
    # A rank of 2 on three projections of 32 x 64 in one layer; the frozen cloud is the edge's own and adds nothing.
    assert record.ledger.reported == 2 * 3 * (32 + 64)
    stored = load_file(folder / "adapter" / "lora_gen.safetensors")
    buffers = sum(tensor.numel() for name, tensor in stored.items() if "running" in name or "num_batches" in name)
    assert record.ledger.optimised == sum(tensor.numel() for tensor in stored.values()) - buffers
    assert record.ledger.trainable == record.ledger.optimised
    # BatchNorm's statistics, and two buffers of rotary positions.
    assert record.ledger.frozen < 50


def test_delivered_adapters_give_the_run_s_predictions_with_plain_peft(
    finished: tuple[PlannedRun, Path, Any], llama_folder: Path
) -> None:
    run, folder, _ = finished
    tokenizer = byte_tokenizer()
    plain = run.task.configured({"num_fewshot": 0})
    reported = plain.splits(run.source).reported
    stored = pd.read_parquet(folder / "predictions.parquet")
    for subset in ("boolq", "arc_easy", "piqa"):
        base = AutoModelForCausalLM.from_pretrained(llama_folder)
        loaded = PeftModel.from_pretrained(base, str(folder / "adapter" / "delivered" / subset))
        asked = reported.filter(lambda example, wanted=subset: example["subset"] == wanted)
        inputs = plain.prepare(asked, tokenizer, run.training.max_length)
        found = plain.predict(Predictor(loaded, tokenizer, plain.collate(tokenizer), 4, CPU), asked, inputs)
        expected = stored[stored["subset"] == subset]
        for mine, theirs in zip(found["log_likelihoods"], expected["log_likelihoods"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_the_generator_on_disk_makes_the_same_adapters(
    finished: tuple[PlannedRun, Path, Any], llama_folder: Path
) -> None:
    run, folder, _ = finished
    cloud, edge = (AutoModelForCausalLM.from_pretrained(llama_folder) for _ in range(2))
    again = LoraGen.from_pretrained(folder / "adapter", cloud, edge)
    example = split_system_prompt(run.task).splits(run.source).reported[0]
    encode = run.method.prompt_encoder(run.setting, byte_tokenizer())
    made = again.generate(encode(example["system_prompt"])).tensors
    for name, tensor in load_file(
        folder / "adapter/delivered" / example["subset"] / "adapter_model.safetensors"
    ).items():
        torch.testing.assert_close(tensor, made[name])


def test_a_task_without_a_system_prompt_is_reported(plan_lora_gen: Callable[..., PlannedRun], store: Store) -> None:
    record = execute_run(plan_lora_gen(task="math_generated"), store, DataCache(), CPU)
    assert record.status == "error"
    assert record.reason.endswith("has no system prompt, which the method reads; use another task, such as commonsense")


def test_a_budget_is_matched_by_what_the_edge_gets(plan_lora_gen: Callable[..., PlannedRun]) -> None:
    run = plan_lora_gen(budget="match:lora(r=3,alpha=3,target_modules=[gate_proj,up_proj,down_proj])")
    assert (run.spec.budget["parameters"], run.setting.r) == (3 * 3 * (32 + 64), 3)
    plain = type(run.setting)()
    assert run.setting.alpha / run.setting.r == plain.alpha / plain.r
    assert not [note for note in run.notes if "budget" in note]


@pytest.mark.parametrize("name", ["lora_gen_mini", "lora_gen_paper"])
def test_the_suites_compare_adapters_of_one_size(name: str) -> None:
    """LoRA is put where LoRA-Gen's is, with its rank and scale."""
    suite = load_suite(name)
    settings = {method: METHODS[method].setting_type(**suite.settings[method]) for method in suite.methods}
    edge = TINY_MODELS["llama"]
    counted = {}
    for method, setting in settings.items():
        base = edge.build()
        here = setting if method == "lora" else setting.model_copy(update={"cloud": None})
        adapted = METHODS[method].adapt(base, module_names(base), here)
        counted[method] = METHODS[method].reported_parameters(adapted, module_names(base))
    assert counted["lora"] == counted["lora_gen"]
    assert settings["lora"].alpha / settings["lora"].r == settings["lora_gen"].alpha / settings["lora_gen"].r
    (layer,) = suite.layers(COMMONSENSE)
    assert COMMONSENSE.configured(layer.options).options.unseen == ("hellaswag", "winogrande", "piqa")
    # Table 10 where the suite is the paper's.
    if not suite.small:
        training = suite.training
        assert training["batch_size"] * training["gradient_accumulation"] == 64
        assert (training["epochs"], training["warmup_steps"], training["max_length"]) == (4, 50, 2048)
        assert settings["lora_gen"].learning_rate == 2e-5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_miniature_experiment_learns_routes_and_beats_the_untouched_edge(bench: Any, tmp_path: Path) -> None:
    """About ten minutes of one processor. The loss is that of four questions a step, and so noisy."""
    fetched(SMOLLM2_135M.weights.conversion.package)
    result = bench("run", "--suite", "lora_gen_mini", "--methods", "lora_gen", "--out", tmp_path / "store")
    assert result.code == 0, result.err
    (record,) = Store(tmp_path / "store").scan()
    folder = tmp_path / "store" / "runs" / record.run_id
    losses = [json.loads(line)["loss"] for line in (folder / "history.jsonl").read_text().splitlines()]
    assert np.mean(losses[-30:]) < 0.75 * np.mean(losses[:10])
    gates = json.loads((folder / "adapter" / "gates.json").read_text())
    used = {
        (layer, expert)
        for prompt in gates.values()
        for layer, weights in enumerate(prompt)
        for expert, weight in enumerate(weights)
        if weight
    }
    # One system prompt has two experts in a layer; those of eight sets have more, if they are distinguished.
    assert len(used) > 3 * 30
    untouched = untouched_accuracy(tmp_path / "untouched")
    # With one seed and these 150 questions of the seen sets, two standard errors are some eight points.
    assert record.selection_metrics["accuracy"] > untouched + 0.02, (record.selection_metrics["accuracy"], untouched)


def untouched_accuracy(folder: Path) -> float:
    """Of the miniature's edge on the same questions of the selection split, asked as plainly as LoRA-Gen's is."""
    lock = RevisionLock(folder / "lock.json")
    (run,) = make_plan(load_suite("lora_gen_mini"), Overrides(methods=("lora_gen",)), lock).runs
    questions = run.task.splits(run.source, run.spec.limit).capped(run.spec.evaluation_limit).selection
    task = run.task.configured({"num_fewshot": 0})
    tokenizer = run.base_model.tokenizer(run.spec.model_revision)
    edge = run.base_model.load(task.head, run.spec.model_revision).eval()
    predictor = Predictor(edge, tokenizer, task.collate(tokenizer), 16, CPU, "bfloat16")
    rows = task.predict(predictor, questions, task.prepare(questions, tokenizer, run.training.max_length))
    return float(rows["accuracy"].mean())
