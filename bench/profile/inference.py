"""Measures inference: scoring a split, a forward pass, generation, unmerged and merged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import StoppingCriteria, StoppingCriteriaList

from parbench.bench.models.kind import positions
from parbench.bench.profile.build import BuiltCandidate
from parbench.bench.profile.flops import count_flops
from parbench.bench.profile.inputs import Batch, make_prompts, on_device, system_prompts
from parbench.bench.profile.measurement import (
    DECODE,
    DECODE_MERGED,
    EVALUATION,
    INFERENCE,
    MERGE,
    MERGED,
    PREFILL,
    PREFILL_MERGED,
    SPECIALISE,
)
from parbench.bench.profile.workload import MeasurementJob
from parbench.methods.merging import unwrap_heads
from parbench.tasks.inference import Predictor, autocast

if TYPE_CHECKING:
    from parbench.bench.profile.clock import Recorder


class _Rows(list[dict[str, Any]]):
    """Prepared rows, as `parbench.tasks.inference.Rows` has them."""

    def select(self, indices: Sequence[int]) -> _Rows:
        return _Rows(self[index] for index in indices)


def measure_evaluation(adapted: BuiltCandidate, batches: Sequence[Batch], rec: Recorder, job: MeasurementJob) -> None:
    """Time the scoring of rows as in a run: making batches, transfer to the device, forward pass, fetching outputs."""
    effort, dtype = job.effort, job.workload.forward_precision
    predictor = Predictor(adapted.model, None, _collate, len(batches[0]["labels"]), rec.device, dtype)
    score = predictor.log_likelihoods if adapted.kind.generates else predictor.logits
    with rec.phase(EVALUATION):
        for number, batch in enumerate(islice(cycle(batches), effort.warm_up + effort.steps)):
            rows = _Rows({name: tensor[row] for name, tensor in batch.items()} for row in range(len(batch["labels"])))
            marks = [rec.clock.mark()]
            score(rows)
            marks.append(rec.clock.mark())
            rec.clock.wait()
            if number >= effort.warm_up:
                rec.add(EVALUATION, rec.clock.between(marks))


@torch.no_grad()
def measure_inference(
    model: nn.Module, batches: Sequence[Batch], rec: Recorder, job: MeasurementJob, phase: str
) -> None:
    """Time forward passes on batches that are already on the device."""
    placed = on_device(batches, rec.device)
    model.eval()
    dtype, effort = job.workload.forward_precision, job.effort

    def answer(batch: Batch) -> None:
        # Each pass has its own autocast context, as in practice: within one context, weights are cast only once.
        with autocast(rec.device, dtype):
            model(**batch)

    with rec.phase(phase):
        for batch in islice(cycle(placed), effort.warm_up):
            answer(batch)
        marks = [rec.clock.mark()]
        for batch in islice(cycle(placed), effort.steps):
            answer(batch)
            marks.append(rec.clock.mark())
        rec.clock.wait()
    rec.add(phase, rec.clock.between(marks))


def count_inference(model: nn.Module, batch: Batch, device: torch.device, dtype: str) -> int:
    """Count the operations of a forward pass.

    Gradients stay enabled: without them torch's counter fails on a module that returns a parameter (peft's GLoRA).
    """
    (batch,) = on_device([batch], device)
    model.eval()
    with autocast(device, dtype):
        return count_flops(lambda: model(**batch))


class _Marks(StoppingCriteria):
    """Records a mark at every generated token; never stops the generation."""

    def __init__(self, rec: Recorder) -> None:
        self._clock = rec.clock
        self.marks: list[Any] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        self.marks.append(self._clock.mark())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def measure_generation(
    model: nn.Module, adapted: BuiltCandidate, rec: Recorder, job: MeasurementJob, merged: bool = False
) -> None:
    """Time greedy generation: up to the first token of a batch of prompts, and each token after it."""
    workload, effort = job.workload, job.effort
    batch = make_prompts(adapted.config, adapted.kind, workload, prompt_length(adapted.config, job))
    (prompts,) = on_device([batch], rec.device)
    prefill, decode = (PREFILL_MERGED, DECODE_MERGED) if merged else (PREFILL, DECODE)
    model.eval()

    def write(tokens: int) -> list[Any]:
        marks = _Marks(rec)
        start = rec.clock.mark()
        cast(Any, model).generate(
            **prompts,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=adapted.config.get_text_config().pad_token_id,
            stopping_criteria=StoppingCriteriaList([marks]),
        )
        return [start, *marks.marks]

    with rec.phase(decode), autocast(rec.device, workload.forward_precision):
        write(min(2, effort.new_tokens))
        marks = write(effort.new_tokens)
        rec.clock.wait()
    first, *rest = rec.clock.between(marks)
    rec.add(prefill, [first])
    rec.add(decode, rest)


def prompt_length(config: Any, job: MeasurementJob) -> int:
    """Return the number of prompt tokens: the workload's, or fewer if the generated tokens would not fit otherwise.

    Raises:
        ValueError: the model has no room for a prompt.
    """
    most, new = positions(config), job.effort.new_tokens
    length = job.workload.length if most is None else min(job.workload.length, most - new)
    if length < 1:
        raise ValueError(f"{job.workload.base_model} takes {most} tokens, too few to generate {new}")
    return length


def specialised(adapted: BuiltCandidate, job: MeasurementJob) -> AbstractContextManager[None]:
    """Return the context of inference: with one system prompt for all inputs, if the model reads system prompts."""
    return adapted.reader.specialised(_prompt(adapted, job)) if adapted.reads_system_prompt else nullcontext()


@torch.no_grad()
def measure_specialising(adapted: BuiltCandidate, rec: Recorder, job: MeasurementJob) -> None:
    """Time the specialisation to each system prompt in turn, until the device is done."""
    effort, marks = job.effort, []
    prompts = system_prompts(adapted.reader.reader_config, job.workload, effort.warm_up + effort.steps).tolist()
    with rec.phase(SPECIALISE):
        for prompt in prompts:
            before = rec.clock.mark()
            with adapted.reader.specialised(prompt):
                marks.append((before, rec.clock.mark()))
        rec.clock.wait()
    for pair in marks[effort.warm_up :]:
        rec.add(SPECIALISE, rec.clock.between(pair))


def count_specialising(adapted: BuiltCandidate, job: MeasurementJob) -> int:
    """Count the operations of the specialisation to one system prompt."""

    def work() -> None:
        with specialised(adapted, job):
            pass

    return count_flops(work)


def merge(adapted: BuiltCandidate, rec: Recorder, job: MeasurementJob) -> nn.Module:
    """Merge the adapter into the base weights, record the time, and return the plain model.

    For a model that reads system prompts, the time includes reading one.

    Raises:
        ValueError: the method declares itself mergeable, but its model has no ``merge_and_unload``.
    """
    if not hasattr(adapted.model, "merge_and_unload"):
        raise ValueError("the adapted model has no merge_and_unload")
    prompt = [_prompt(adapted, job)] if adapted.reads_system_prompt else []
    unwrap_heads(adapted.model)
    with rec.phase(MERGE, timed=True):
        return cast(nn.Module, cast(Any, adapted.model).merge_and_unload(*prompt))


def measure_merged(adapted: BuiltCandidate, batches: Sequence[Batch], rec: Recorder, job: MeasurementJob) -> None:
    """Merge, and time the merged model; the adapted model is consumed."""
    merged = merge(adapted, rec, job)
    measure_inference(merged, batches, rec, job, MERGED)
    if adapted.kind.generates and "generation" in job.effort.parts:
        measure_generation(merged, adapted, rec, job, merged=True)


def measure_unmerged(adapted: BuiltCandidate, batches: Sequence[Batch], rec: Recorder, job: MeasurementJob) -> None:
    """Time inference of the adapted model, as far as the job asks for it."""
    parts = job.effort.parts
    inputs = without_labels(batches)
    if "evaluation" in parts:
        measure_inference(adapted.model, inputs, rec, job, INFERENCE)
        measure_evaluation(adapted, batches, rec, job)
    if "generation" in parts and adapted.kind.generates:
        measure_generation(adapted.model, adapted, rec, job)


def _prompt(adapted: BuiltCandidate, job: MeasurementJob) -> list[int]:
    """Return the system prompt of inference."""
    prompts: list[list[int]] = system_prompts(adapted.reader.reader_config, job.workload, 1).tolist()
    return prompts[0]


def without_labels(batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches of inference."""
    return [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in batches]


def _collate(rows: list[dict[str, Any]]) -> Batch:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
