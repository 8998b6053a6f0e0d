"""Measurements of whole models, without a process of their own."""

from dataclasses import replace

import pytest
import torch

from parbench.bench.models.catalogue import find_model
from parbench.bench.models.kind import positions
from parbench.bench.profile.measure import _cause, measure
from parbench.bench.profile.measurement import (
    BACKWARD,
    DECODE,
    DEQUANTISE,
    FORWARD,
    INFERENCE,
    MERGE,
    MERGED,
    OPTIMISER,
    PREFILL,
    STEP,
)
from parbench.bench.profile.workload import (
    FROZEN_FLOOR,
    Candidate,
    MeasurementJob,
    Repetitions,
    Workload,
    check_length,
    kind_of,
)
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from parbench.methods import find_method

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Tiny models of random weights, one for each kind of use."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        ViTConfig,
        ViTForImageClassification,
    )

    root = tmp_path_factory.mktemp("profiled")
    small = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
    models = {
        "gpt2": GPT2LMHeadModel(
            GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1)
        ),
        "llama": LlamaForCausalLM(LlamaConfig(vocab_size=200, num_attention_heads=4, num_key_value_heads=2, **small)),
        "vit": ViTForImageClassification(ViTConfig(image_size=32, patch_size=16, num_attention_heads=2, **small)),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
    return root


def job_for(model, expression="lora", **changes):
    choice = find_method(expression) if expression else None
    setting = choice.method.setting_type(**choice.values) if choice else None
    candidate = Candidate.of(expression, choice.method, setting) if choice else FROZEN_FLOOR
    return MeasurementJob(
        candidate, Workload(str(model), 3, 16, "cpu"), Repetitions(steps=2, warm_up=1, new_tokens=4), **changes
    )


class TestMeasurements:
    def test_every_phase_of_a_language_model(self, folders):
        measurement = measure(job_for(folders / "gpt2"), CPU)
        assert (measurement.status, measurement.reason, measurement.notes) == (Status.OK, None, [])
        assert {
            FORWARD,
            BACKWARD,
            OPTIMISER,
            STEP,
            INFERENCE,
            PREFILL,
            DECODE,
            MERGE,
            MERGED,
        } <= measurement.seconds.keys()
        assert len(measurement.seconds[STEP]) == 2
        assert len(measurement.seconds[DECODE]) == 3
        parts = zip(*(measurement.seconds[phase] for phase in (FORWARD, BACKWARD, OPTIMISER)), strict=True)
        assert [sum(of_step) for of_step in parts] == pytest.approx(measurement.seconds[STEP])
        assert measurement.prompt_tokens == 16
        assert measurement.ledger.reported == 2048
        assert measurement.breakdown.adapter == 4 * 2048
        assert measurement.flops[STEP] == measurement.flops[FORWARD] + measurement.flops[BACKWARD]

    def test_the_frozen_floor_trains_nothing_and_sends_gradients_back(self, folders):
        floor = measure(job_for(folders / "gpt2", None), CPU)
        assert floor.status is Status.OK
        assert floor.ledger is None
        assert (floor.breakdown.adapter, floor.breakdown.gradients, floor.breakdown.optimiser) == (0, 0, 0)
        # The gradients of the inputs of all products, which are as many as the products; attention recomputes some.
        assert floor.flops[FORWARD] <= floor.flops[BACKWARD] <= 1.3 * floor.flops[FORWARD]

    def test_full_fine_tuning_is_twice_as_much_backward_as_forward(self, folders):
        full = measure(job_for(folders / "llama", "full"), CPU)
        assert full.flops[BACKWARD] == pytest.approx(2 * full.flops[FORWARD], rel=0.1)
        assert full.breakdown.gradients == full.breakdown.adapter + full.breakdown.head
        assert "cannot be merged" in full.notes

    @pytest.mark.parametrize("method", ["bitfit", "lora"])
    def test_images(self, folders, method):
        measurement = measure(job_for(folders / "vit", method), CPU)
        assert measurement.status is Status.OK, measurement.reason
        assert PREFILL not in measurement.seconds

    def test_half_the_bytes_in_bfloat16(self, folders):
        job = job_for(folders / "llama")
        half = replace(job, workload=replace(job.workload, dtype="bfloat16"))
        whole, halved = (measure(one, CPU).breakdown for one in (job, half))
        assert halved.weights == pytest.approx(whole.weights / 2, rel=0.01)
        # peft keeps adapters in float32.
        assert halved.adapter == whole.adapter

    def test_the_method_s_own_steps_are_taken_where_the_training_is(self, tiny_model):
        job = job_for(tiny_model, "loca(n_frequency=50)")
        early = replace(job, workload=replace(job.workload, at=0.05))
        late = replace(job, workload=replace(job.workload, at=0.5))
        # Step 50 of 1000 trains the two coordinates of each location, step 500 its coefficient.
        trained = [measure(one, CPU).breakdown.gradients for one in (early, late)]
        assert trained[0] > trained[1]

    def test_a_trace_is_written(self, tiny_model, tmp_path):
        measure(job_for(tiny_model, trace=str(tmp_path / "trace.json")), CPU)
        assert "traceEvents" in (tmp_path / "trace.json").read_text()

    def test_what_cannot_be_is_a_reason(self, tiny_model):
        job = job_for(tiny_model)
        measurement = measure(
            replace(job, candidate=replace(job.candidate, setting={"target_modules": ["nothing"]})), CPU
        )
        assert measurement.status is Status.ERROR
        assert measurement.reason

    def test_an_order_is_the_same_in_another_process(self, tiny_model):
        import json

        job = job_for(tiny_model, limit_bytes=5)
        again = MeasurementJob.of_json(json.loads(json.dumps(job.as_json())))
        assert replace(again, effort=job.effort) == job
        assert list(again.effort.parts) == list(job.effort.parts)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Status.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), Status.OUT_OF_MEMORY),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (UserError("no such model"), Status.ERROR),
        (RuntimeError("something else"), Status.ERROR),
    ],
)
def test_out_of_memory_is_distinguished_from_other_failures(error, status):
    assert _cause(error)[0] is status


def test_kinds_and_lengths(folders, tiny_model):
    kinds = {name: kind_of(find_model(str(folders / name))) for name in ("gpt2", "llama", "vit")}
    assert [kind.generates for kind in kinds.values()] == [True, True, False]
    assert kinds["vit"].modality == "image"
    assert not kind_of(find_model(str(tiny_model))).generates
    assert positions(find_model("roberta-base").skeleton().config) == 512
    with pytest.raises(UserError, match="--seq is 513, and roberta-base takes at most 512 tokens"):
        check_length(Workload("roberta-base", 1, 513, "cpu"))
    check_length(Workload(str(folders / "vit"), 1, 10**6, "cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(folders):
    job = job_for(folders / "llama")
    measurement = measure(replace(job, workload=replace(job.workload, device="cuda")), torch.device("cuda"))
    assert measurement.status is Status.OK, measurement.reason
    peaks = {span.phase: span.allocated for span in measurement.spans}
    assert peaks[BACKWARD] >= measurement.breakdown.weights + measurement.breakdown.adapter
    assert all(span.reserved >= span.allocated for span in measurement.spans)
    assert len(measurement.seconds[STEP]) == 2


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("nf4", 4)])
def test_a_quantised_base_model_is_smaller_and_its_dequantising_is_a_phase(folders, precision, bits):
    pytest.importorskip("bitsandbytes")
    plain = job_for(folders / "llama")
    quick = replace(plain, effort=Repetitions(steps=2, warm_up=1, parts=("training",)))
    whole = measure(quick, CPU)
    found = measure(replace(quick, workload=replace(quick.workload, dtype=precision)), CPU)
    assert found.status is whole.status is Status.OK, found.reason
    assert len(found.seconds[DEQUANTISE]) == 2
    assert DEQUANTISE not in whole.seconds
    # Two layers of attention (32 x 32 and 16 x 32) and of a gated network (64 x 32).
    linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    saved = whole.breakdown.weights - found.breakdown.weights
    assert linear * (32 - bits) // 8 * 0.9 < saved < linear * (32 - bits) // 8
    for part in ("adapter", "head", "gradients", "optimiser"):
        assert getattr(found.breakdown, part) == getattr(whole.breakdown, part)
    assert found.ledger.reported == whole.ledger.reported
    assert found.ledger.base_bytes < whole.ledger.base_bytes
