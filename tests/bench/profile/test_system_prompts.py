"""Visits of methods that read a system prompt beside the examples."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from parbench.bench.profile.build import CallbackDriver, build
from parbench.bench.profile.inputs import checksum, make_batches, with_system_prompts
from parbench.bench.profile.measure import measure
from parbench.bench.profile.measurement import DECODE, FORWARD, INFERENCE, MERGE, MERGED, PREFILL, SPECIALISE, STEP
from parbench.bench.profile.training import Stepper
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.methods import find_method
from parbench.tasks.kinds.system_prompt import IDS, MASK

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two tiny causal models with random weights."""
    root = tmp_path_factory.mktemp("profiled")
    ends = {"bos_token_id": 0, "eos_token_id": 2}
    llama = LlamaConfig(
        vocab_size=200, num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=4, **ends
    )
    gpt2 = GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=2, n_positions=64, **ends)
    LlamaForCausalLM(llama).save_pretrained(root / "llama")
    GPT2LMHeadModel(gpt2).save_pretrained(root / "gpt2")
    return root


def job_for(model, expression):
    choice = find_method(expression)
    candidate = Candidate.of(expression, choice.method, choice.method.setting_type(**choice.values))
    return MeasurementJob(candidate, Workload(str(model), 3, 16, "cpu"), Repetitions(steps=2, warm_up=1, new_tokens=4))


def told(model, tokens, **setting):
    """Return a measurement of a small LoRA-Gen, with system prompts of so many tokens."""
    small = {"r": 2, "alpha": 2, "experts": 4, "router_hidden": 8, "cloud_r": 2, **setting}
    job = job_for(model, f"lora_gen({','.join(f'{name}={value}' for name, value in small.items())})")
    return replace(job, workload=replace(job.workload, system_prompt_tokens=tokens))


def test_every_example_has_a_system_prompt_of_its_own(folders):
    adapted = build(told(folders / "llama", 24), CPU)
    work = Workload("none", 16, 128, "cpu", system_prompt_tokens=20)
    batches = make_batches(adapted.config, adapted.kind, work, 2)
    both = with_system_prompts(batches, adapted.reader.reader_config, work)
    assert checksum(both) != checksum(batches)
    for batch, prompted in zip(batches, both, strict=True):
        assert prompted.keys() - batch.keys() == {IDS, MASK}
        assert prompted[MASK].all()
        assert not np.isin(prompted[IDS].numpy(), [0, 2]).any()
    prompts = {tuple(ids) for batch in both for ids in batch[IDS].tolist()}
    assert {len(ids) for ids in prompts} == {20}
    assert len(prompts) == 2 * 16


def test_what_reads_a_system_prompt_is_given_one(folders):
    measurement = measure(told(folders / "llama", 24), CPU)
    assert measurement.status is Status.OK, measurement.reason
    assert len(measurement.seconds[SPECIALISE]) == 2
    assert {STEP, INFERENCE, PREFILL, DECODE, MERGE, MERGED} <= measurement.seconds.keys()
    (note,) = measurement.notes
    assert note.startswith("reads a system prompt of 24 tokens with each training example")
    # What all others get is not touched.
    assert measurement.batches == measure(job_for(folders / "llama", "lora"), CPU).batches


def test_the_cloud_is_in_a_step_of_training_and_not_in_one_of_use(folders):
    short, long = (measure(told(folders / "llama", tokens), CPU).flops for tokens in (24, 48))
    assert long[INFERENCE] == short[INFERENCE]
    # Each of the three examples has a prompt of its own; in use one is read for all.
    more = long[SPECIALISE] - short[SPECIALISE]
    assert more > 0
    assert long[FORWARD] - short[FORWARD] == 3 * more
    # Twice the tokens and two meta tokens are nearly twice the work, attention aside.
    assert 1.7 < long[SPECIALISE] / short[SPECIALISE] < 2.2


def test_a_system_prompt_too_long_is_a_reason(folders):
    measurement = measure(told(folders / "gpt2", 63), CPU)
    assert measurement.status is Status.ERROR
    assert measurement.reason.endswith("exceed the cloud model's 64 positions; shorten it to 62 tokens")


def test_what_a_method_adds_to_the_loss_is_in_it(folders):
    losses = []
    for coefficient in (0.0, 1000.0):
        adapted = build(told(folders / "llama", 24, balance_coefficient=coefficient), CPU)
        (batch,) = make_batches(adapted.config, adapted.kind, Workload("", 3, 16, "cpu"), 1)
        (batch,) = with_system_prompts([batch], adapted.reader.reader_config, Workload("", 3, 16, "cpu"))
        adapted.model.eval()
        steps = CallbackDriver(adapted, None, 0.4, folders)
        losses.append(Stepper(adapted, None, steps, "float32").forward(batch).item())
    assert losses[1] > losses[0] + 1
