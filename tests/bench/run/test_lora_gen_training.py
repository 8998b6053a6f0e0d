"""LoRA-Gen while it trains: what is moved, fed and lost, and that it goes on where it was cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import parbench.bench.run.execute_run
import parbench.bench.train.retention
import parbench.bench.train.train
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.bench.train.train import StoppedError
from parbench.tasks.kinds.system_prompt import IDS, MASK
from parbench.tasks.retention import NEUTRAL_SYSTEM_PROMPT, general_text_at
from tests.support.tiny_llama import byte_tokenizer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "changes", [{}, {"lora_gen__routing": "gumbel", "train__select_epoch": True, "train__max_steps": 9}]
)
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    plan_lora_gen: Callable[..., PlannedRun], tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = plan_lora_gen(task="commonsense_single/piqa", commonsense_single__unseen=[], **changes)
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
    plan_lora_gen: Callable[..., PlannedRun], store: Store, monkeypatch: pytest.MonkeyPatch, llama_folder: Path
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
    assert execute_run(plan_lora_gen(train__max_steps=12), store, DataCache(), CPU).status == "ok"
    (job,) = jobs
    moved = {name for name, p in job.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in job.model.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in moved} == {"encoder", "generator"}
    assert {"meta_embedding", "routers", "pools", "lora_A", "lora_B", "norm"} <= {
        part for name in moved for part in name.split(".")
    }
    saved = AutoModelForCausalLM.from_pretrained(llama_folder).state_dict()
    for name, tensor in job.model.lora_gen.release_edge().state_dict().items():
        assert torch.equal(tensor, saved[name])


@pytest.mark.parametrize(
    "changes",
    [{"lora_gen__routing": "direct"}, {"lora_gen__mixing": "products"}, {"train__gradient_accumulation": 2}],
    ids=str,
)
def test_the_ablations_run(plan_lora_gen: Callable[..., PlannedRun], store: Store, changes: dict[str, Any]) -> None:
    run = plan_lora_gen(task="commonsense_single/piqa", commonsense_single__unseen=[], train__max_steps=2, **changes)
    record = execute_run(run, store, DataCache(), CPU)
    assert record.status == "ok", record.reason
    folder = store.runs / record.run_id / "adapter"
    config = json.loads((folder / "delivered" / "piqa" / "adapter_config.json").read_text())
    rank = 4 if "lora_gen__mixing" in changes else 2
    assert (config["r"], config["lora_alpha"], record.ledger.reported) == (rank, rank, rank * 3 * (32 + 64))
    assert (folder / "gates.json").exists() is ("lora_gen__routing" not in changes)


def test_recomputed_activations_change_nothing(plan_lora_gen: Callable[..., PlannedRun], tmp_path: Path) -> None:
    losses = []
    for recompute in (False, True):
        store = Store(tmp_path / str(recompute))
        store.prepare()
        run = plan_lora_gen(
            task="commonsense_single/piqa", commonsense_single__unseen=[], train__max_steps=3,
            train__gradient_checkpointing=recompute,
        )  # fmt: skip
        record = execute_run(run, store, DataCache(), CPU)
        assert record.status == "ok", record.reason
        lines = (store.runs / record.run_id / "history.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_losses_of_the_record_hold_the_balance_of_the_experts(
    plan_lora_gen: Callable[..., PlannedRun], store: Store
) -> None:
    """With a coefficient so large that nothing else counts: two equal gates of four give at most (4 / 1) - 1 = 3."""
    first = {}
    for coefficient in (0.0, 1000.0):
        run = plan_lora_gen(
            task="commonsense_single/piqa", lora_gen__balance_coefficient=coefficient, train__max_steps=1,
            commonsense_single__unseen=[],
        )  # fmt: skip
        record = execute_run(run, store, DataCache(), CPU)
        history = (store.runs / record.run_id / "history.jsonl").read_text().splitlines()
        first[coefficient] = json.loads(history[0])["loss"]
    assert 0 < (first[1000.0] - first[0.0]) / 1000.0 <= 3.0


def test_the_edge_gets_the_bare_question_and_the_cloud_the_examples(
    plan_lora_gen: Callable[..., PlannedRun], monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    tokenizer = byte_tokenizer()
    inputs = DataCache()
    runs = [
        plan_lora_gen(method, train__max_steps=1, train__length_groups=1, commonsense__select_by="log_likelihood")
        for method in ("lora", "lora_gen")
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


@pytest.mark.parametrize("method", ["lora_gen", "lora"])
def test_what_is_forgotten_is_measured_under_the_neutral_system_prompt(
    plan_lora_gen: Callable[..., PlannedRun],
    store: Store,
    sets_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    text = sets_root / "lm-text" / "wikitext-2" / "test.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("It was a bright cold day in April. " * 500)
    run = plan_lora_gen(method, task="commonsense_single/piqa", commonsense_single__unseen=[], train__max_steps=2)
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
