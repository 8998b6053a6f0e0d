"""The alternation of coefficient and location steps, in one's own loop and under transformers' `Trainer`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from parbench.methods.loca import LocaCallback, LocaLayer, LocaSchedule, Phase
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS

Build = Callable[..., PeftModel]
C, L, B, F = Phase.COEFFICIENTS, Phase.LOCATIONS, Phase.BOTH, Phase.FROZEN_LOCATIONS


def layers(model: nn.Module) -> list[LocaLayer]:
    return [module for module in model.modules() if isinstance(module, LocaLayer)]


def groups(model: nn.Module) -> dict[str, list[Tensor]]:
    return {name: [getattr(layer, name)["default"] for layer in layers(model)] for name in (COEFFICIENTS, LOCATIONS)}


def copied(model: nn.Module) -> dict[str, list[Tensor]]:
    return {name: [p.detach().clone() for p in parameters] for name, parameters in groups(model).items()}


def trainable(model: nn.Module) -> set[str]:
    found = set()
    for name, parameters in groups(model).items():
        flags = {parameter.requires_grad for parameter in parameters}
        assert len(flags) == 1, "all layers are in the same phase"
        if flags.pop():
            found.add(name)
    return found


def test_published_cycle() -> None:
    schedule = LocaSchedule(location_until=100)
    phases = [schedule.phase_at(step) for step in range(130)]
    assert phases == ([C] * 10 + [L] * 20) * 3 + [C] * 10 + [F] * 30


def test_cycle_is_cut_where_locations_end() -> None:
    schedule = LocaSchedule(location_until=4, coefficient_steps=1, location_steps=2)
    assert [schedule.phase_at(step) for step in range(6)] == [C, L, L, C, F, F]
    assert LocaSchedule(location_until=0).phase_at(0) is F
    assert L not in [LocaSchedule(9, coefficient_steps=2, location_steps=0).phase_at(step) for step in range(9)]


def test_without_alternation_both_are_trained_until_locations_end(adapted_bert: Build, input_ids: Tensor) -> None:
    schedule = LocaSchedule(location_until=2, alternating=False)
    assert [schedule.phase_at(step) for step in range(4)] == [B, B, F, F]
    model = adapted_bert(init_weights=False)
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01)
    for step, moving in enumerate([{COEFFICIENTS, LOCATIONS}, {COEFFICIENTS, LOCATIONS}, {COEFFICIENTS}]):
        before = copied(model)
        schedule.apply(model, step)
        model(input_ids=input_ids, labels=torch.tensor([0, 1])).loss.backward()
        optimiser.step()
        after = groups(model)
        for name, old in before.items():
            assert [not torch.equal(a, b) for a, b in zip(old, after[name], strict=True)] == [name in moving] * len(old)


def test_gradients_of_both_together_are_those_of_each_alone(adapted_bert: Build, input_ids: Tensor) -> None:
    model = adapted_bert(init_weights=False).double()
    found: dict[Phase, dict[str, list[Tensor | None]]] = {}
    for phase in (B, C, L):
        for layer in layers(model):
            layer.freeze("default", phase.frozen_groups)
        model.zero_grad()
        model(input_ids=input_ids, labels=torch.tensor([0, 1])).loss.backward()
        found[phase] = {name: [p.grad for p in parameters] for name, parameters in groups(model).items()}
    for phase, name in ((C, COEFFICIENTS), (L, LOCATIONS)):
        for together, alone in zip(found[B][name], found[phase][name], strict=True):
            torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location_until": -1}, "location_until is -1; give an integer of at least 0"),
        ({"location_until": 0.5}, r"location_until is 0\.5; give an integer"),
        (
            {"location_until": 9, "coefficient_steps": 0},
            "coefficient_steps is 0; give an integer of at least 1",
        ),
        ({"location_until": 9, "location_steps": -2}, "location_steps is -2; give an integer of at least 0"),
    ],
)
def test_schedule_refuses_impossible_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^LocaSchedule: {message}"):
        LocaSchedule(**options)


@pytest.mark.parametrize("location_until", [1.5, -0.1, float("nan")])
def test_callback_refuses_impossible_fractions(location_until: float) -> None:
    with pytest.raises(ValueError, match=r"^LocaCallback: location_until is .*; give a fraction from 0\.0 to 1\.0"):
        LocaCallback(location_until)


def test_callback_refuses_impossible_steps() -> None:
    for location_until in (-1, True):
        with pytest.raises(ValueError, match=f"location_until is {location_until}; give an integer"):
            LocaCallback(location_until)


def test_frozen_group_is_neither_moved_nor_decayed(adapted_bert: Build, input_ids: Tensor) -> None:
    model = adapted_bert(init_weights=False)
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.01, weight_decay=0.1)
    schedule = LocaSchedule(location_until=5, coefficient_steps=2, location_steps=2)
    moving = {C: COEFFICIENTS, L: LOCATIONS, F: COEFFICIENTS}
    for step, expected in enumerate([C, C, L, L, C, F, F]):
        before = copied(model)
        # The optimiser keeps the gradients of the previous step until the schedule drops them.
        assert schedule.apply(model, step) is expected
        assert trainable(model) == {moving[expected]}
        model(input_ids=input_ids, labels=torch.tensor([0, 1])).loss.backward()
        frozen = LOCATIONS if moving[expected] == COEFFICIENTS else COEFFICIENTS
        assert all(parameter.grad is None for parameter in groups(model)[frozen])
        optimiser.step()
        after = groups(model)
        assert all(torch.equal(a, b) for a, b in zip(before[frozen], after[frozen], strict=True))
        moved = moving[expected]
        assert all(not torch.equal(a, b) for a, b in zip(before[moved], after[moved], strict=True))
    LocaSchedule.release(model)
    assert trainable(model) == {COEFFICIENTS, LOCATIONS}


def test_phase_outlives_switching_adapters_off_and_on(adapted_bert: Build) -> None:
    model = adapted_bert()
    schedule = LocaSchedule(location_until=9, coefficient_steps=1, location_steps=1)
    schedule.apply(model, 1)
    with model.disable_adapter():
        assert trainable(model) == set()
        with pytest.raises(ValueError, match="No LoCA adapter of this model is in training"):
            schedule.apply(model, 2)
    assert trainable(model) == {LOCATIONS}
    model.set_adapter("default")
    assert trainable(model) == {LOCATIONS}
    schedule.apply(model, 2)
    assert trainable(model) == {COEFFICIENTS}


def test_only_the_adapters_in_training_are_switched(adapted_bert: Build, tmp_path: Path) -> None:
    model = adapted_bert()
    model.save_pretrained(tmp_path)
    model.load_adapter(tmp_path, "other")
    LocaSchedule(location_until=9).apply(model, 0)
    assert not any(layer.in_training("other") for layer in layers(model))
    frozen = PeftModel.from_pretrained(model.unload(), tmp_path)
    with pytest.raises(ValueError, match=r"No LoCA adapter of this model is in training; .*is_trainable=True"):
        LocaSchedule(location_until=9).apply(frozen, 0)
    LocaSchedule.release(frozen)
    assert trainable(frozen) == set()


class Recorder(TrainerCallback):
    """What trained in each optimiser step, and in each micro-batch before it."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, str]] = []

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append((state.global_step, "/".join(sorted(trainable(kwargs["model"])))))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_substep_end(args, state, control, **kwargs)


def make_trainer(model: nn.Module, folder: Path, callback: LocaCallback, **options: Any) -> Trainer:
    """A trainer of 12 optimiser steps over 24 examples."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 100, (24, 6), generator=generator)
    data = [{"input_ids": row, "labels": int(row[0]) % 3} for row in ids]
    options = {
        "per_device_train_batch_size": 4,
        "max_steps": 12,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "save_strategy": "no",
        "label_names": ["labels"],
        **options,
    }
    arguments = TrainingArguments(
        str(folder), use_cpu=True, disable_tqdm=True, report_to="none", seed=3, log_level="error", **options
    )
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:4], callbacks=[callback, Recorder()])
    trainer.remove_callback(PrinterCallback)
    return trainer


def recorded(trainer: Trainer) -> list[tuple[int, str]]:
    return next(cb for cb in trainer.callback_handler.callbacks if isinstance(cb, Recorder)).steps


def expected_steps(schedule: LocaSchedule, micro_batches: int = 1, first: int = 0) -> list[tuple[int, str]]:
    names = {C: COEFFICIENTS, L: LOCATIONS, F: COEFFICIENTS}
    return [(s, names[schedule.phase_at(s)]) for s in range(first, 12) for _ in range(micro_batches)]


def test_accumulation_and_evaluation_do_not_advance_the_cycle(adapted_bert: Build, tmp_path: Path) -> None:
    model = adapted_bert(init_weights=False)
    trainer = make_trainer(
        model,
        tmp_path,
        LocaCallback(location_until=0.75, coefficient_steps=2, location_steps=3),
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
    )
    trainer.train()
    assert recorded(trainer) == expected_steps(LocaSchedule(9, 2, 3), micro_batches=2)
    assert trainable(model) == {COEFFICIENTS, LOCATIONS}, "both groups are released after training"


def test_second_training_starts_the_cycle_again(adapted_bert: Build, tmp_path: Path) -> None:
    trainer = make_trainer(adapted_bert(), tmp_path, LocaCallback(6, 2, 2))
    trainer.train()
    trainer.train()
    assert recorded(trainer) == 2 * expected_steps(LocaSchedule(6, 2, 2))


@pytest.mark.parametrize("stop", [2, 4, 6, 9])
def test_resumed_run_equals_the_uninterrupted_one(adapted_bert: Build, tmp_path: Path, stop: int) -> None:
    """Checkpoints in the middle of both kinds of phase, at a change, and after locations are fixed."""

    def train(folder: Path, resume: bool) -> tuple[Trainer, dict[str, Tensor]]:
        trainer = make_trainer(
            adapted_bert(),
            folder,
            LocaCallback(8, 3, 2),
            save_strategy="steps",
            save_steps=stop,
            per_device_train_batch_size=3,
        )
        trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{stop}") if resume else None)
        return trainer, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}

    whole, expected = train(tmp_path / "whole", resume=False)
    shutil.copytree(tmp_path / "whole" / f"checkpoint-{stop}", tmp_path / "resumed" / f"checkpoint-{stop}")
    resumed, actual = train(tmp_path / "resumed", resume=True)
    assert recorded(whole) == expected_steps(LocaSchedule(8, 3, 2))
    assert recorded(resumed) == expected_steps(LocaSchedule(8, 3, 2), first=stop)
    start = adapted_bert().state_dict()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name
    moved = [not torch.equal(start[n], v) for n, v in expected.items() if LOCATIONS in n or COEFFICIENTS in n]
    assert moved == [True] * 8


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_every_phase_trains_under_gradient_checkpointing(
    adapted_bert: Build, tmp_path: Path, use_reentrant: bool
) -> None:
    def train(folder: Path, **options: Any) -> dict[str, list[Tensor]]:
        model = adapted_bert()
        make_trainer(model, folder, LocaCallback(10, 2, 2), **options).train()
        assert model.get_base_model().is_activation_checkpointing is bool(options)
        return copied(model)

    plain = train(tmp_path / "plain")
    checkpointed = train(
        tmp_path / "checkpointed",
        activation_checkpointing=True,
        activation_checkpointing_kwargs={"use_reentrant": use_reentrant},
    )
    for name, expected in plain.items():
        for a, b in zip(checkpointed[name], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_interrupted_run_leaves_a_model_that_trains_again(adapted_bert: Build, tmp_path: Path) -> None:
    model = adapted_bert()
    LocaSchedule(9, 1, 1).apply(model, 1)  # where an exception may have left it: coefficients frozen
    trainer = make_trainer(model, tmp_path, LocaCallback(6, 2, 2))
    trainer.train()
    assert recorded(trainer) == expected_steps(LocaSchedule(6, 2, 2))


def test_optimiser_without_one_group_is_refused(adapted_bert: Build, tmp_path: Path) -> None:
    model = adapted_bert()
    trainer = make_trainer(model, tmp_path, LocaCallback(6, 2, 2))
    trainer.optimizer = torch.optim.AdamW(groups(model)[COEFFICIENTS], lr=0.01)
    with pytest.raises(ValueError, match="The optimiser holds only some of LoCA's parameters"):
        trainer.train()


def test_model_without_loca_is_refused(base_bert: Callable[[], nn.Module], tmp_path: Path) -> None:
    trainer = make_trainer(base_bert(), tmp_path, LocaCallback(6, 2, 2))
    with pytest.raises(ValueError, match="No LoCA adapter of this model is in training"):
        trainer.train()


def test_warns_when_the_run_is_too_short_for_a_location_step(adapted_bert: Build, tmp_path: Path) -> None:
    trainer = make_trainer(adapted_bert(), tmp_path, LocaCallback())
    with pytest.warns(UserWarning, match="all 1 steps before location_until are coefficient steps"):
        trainer.train()
    assert recorded(trainer) == [(step, COEFFICIENTS) for step in range(12)]
