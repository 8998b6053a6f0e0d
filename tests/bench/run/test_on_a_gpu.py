"""Whole runs and profiles on a CUDA device: every kind of task, resuming, sharing of a device, and want of memory."""

import json
import threading
from dataclasses import replace

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.progress import SilentProgress
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.profile.measurement import BACKWARD, DECODE_MERGED, EVALUATION, FORWARD, MERGED, OPTIMISER, STEP
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.runner import ProfileRequest, largest_batch, run_profile
from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.layout import HISTORY
from parbench.bench.store.store import Store
from parbench.bench.train.train import StoppedError, train
from parbench.methods import find_method
from parbench.reports.profile.summary import rows_of
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.instruct import INSTRUCT
from parbench.tasks.judge import InProcessJudge, Sampling
from parbench.tasks.judge.answering import answer
from parbench.tasks.judge.conversation import Prompt
from parbench.tasks.judge.questions import Question
from tests.support.commonsense_rows import write_sets
from tests.support.tiny_llama import byte_tokenizer, predictor_of, tiny_llama, tiny_model_folder
from tests.support.training import bert, interrupt_at, job, texts

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "llama", tiny_llama())


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vit"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(image_size=56, patch_size=28, **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


@pytest.fixture
def planned(store, tiny_data, tiny_model, tmp_path_factory, llama, vit):
    """Plan one tiny run of a task."""
    places = {
        "glue/sst2": (tiny_model, tiny_data),
        "restaurants_nlg": (llama, None),
        "commonsense": (llama, write_sets(tmp_path_factory.mktemp("sets"))),
        "vision/digits": (vit, None),
    }

    def make(task="glue/sst2", method="lora", *sets, options=None):
        model, data = places[task]
        small = ("train.max_steps=4", "train.batch_size=4", "train.max_length=60")
        size = {"loca": ("loca.n_frequency=50",), "lora_gen": ("lora_gen.experts=4", "lora_gen.r=2")}
        overrides = Overrides(
            methods=(method,),
            tasks=(task,),
            base_model=str(model),
            seeds=(1,),
            limit=12,
            sets=(*small, *size.get(method, ()), *sets),
            options=options or {},
            data_root=data,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return make


KINDS = {
    "classification": ("glue/sst2", {}),
    "generation": ("restaurants_nlg", {"num_beams": 2, "max_new_tokens": 12}),
    "multiple choice": ("commonsense", {}),
    "lm-eval": ("commonsense", {"protocol": "lm_eval", "train_text": "lm_eval"}),
    "images": ("vision/digits", {}),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "loca"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind(planned, store, kind, method, precision):
    task, options = KINDS[kind]
    record = execute_run(
        planned(task, method, f"train.precision={precision}", options=options), store, DataCache(), GPU
    )
    assert (record.status, record.reason) == (Status.OK, None)
    assert record.cost.reserved_device_bytes >= record.cost.peak_device_bytes > 0
    assert torch.cuda.get_device_name() in record.provenance.hardware["accelerator"]


def test_a_run_with_system_prompts_and_retention(planned, store):
    run = planned("commonsense", "lora_gen", "lora_gen.cloud_r=2", "lora_gen.router_hidden=8")
    record = execute_run(run, store, DataCache(), GPU)
    assert (record.status, record.reason) == (Status.OK, None)


def test_a_gpu_finds_what_a_cpu_finds(planned, store, tmp_path):
    """Not to the last bit, but the same losses: data, start, schedule and loss do not depend on the device."""
    histories = []
    for name, device in (("gpu", GPU), ("cpu", torch.device("cpu"))):
        own = Store(tmp_path / name)
        own.prepare()
        record = execute_run(planned("restaurants_nlg", "loca"), own, DataCache(), device)
        lines = (own.runs / record.run_id / HISTORY).read_text().splitlines()
        histories.append([json.loads(line)["loss"] for line in lines])
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


@pytest.fixture
def repeatable():
    """Deterministic kernels where there are some; that cuBLAS is configured too late does not matter on one stream."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, precision):
    """Dropout draws from the device's own generator, whose state is in the checkpoint."""

    def prepared(folder):
        model = bert().to(GPU)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        torch.manual_seed(3)
        made = job(folder, model, texts(), max_steps=12, checkpoint_steps=4, precision=precision)
        return replace(made, device=GPU)

    whole = prepared(tmp_path / "whole")
    train(whole)
    cut = prepared(tmp_path / "cut")
    cut.on_step = interrupt_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    resumed = prepared(tmp_path / "cut")
    assert train(resumed).steps == 12
    for (name, first), (_, second) in zip(
        whole.model.named_parameters(), resumed.model.named_parameters(), strict=True
    ):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_runs_in_one_process_do_not_count_each_others_memory(planned, store):
    run = planned("restaurants_nlg", options={"max_new_tokens": 4})
    records = [
        execute_run(replace(run, spec=replace(run.spec, seed=seed)), store, DataCache(), GPU) for seed in (1, 2, 3)
    ]
    first, *others = [record.cost.peak_device_bytes for record in records]
    assert all(peak == pytest.approx(first, rel=0.05) for peak in others)


def test_want_of_memory_is_a_record_and_the_next_run_goes_on(planned, store):
    run = planned()
    free = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((2 << 20) / free, GPU)
    try:
        record = execute_run(run, store, DataCache(), GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert record.status is Status.OUT_OF_MEMORY, record.reason
    following = execute_run(replace(run, spec=replace(run.spec, seed=2)), store, DataCache(), GPU)
    assert (following.status, following.reason) == (Status.OK, None)


def test_workers_open_the_device_themselves_and_repeat_to_the_last_bit(planned, tmp_path):
    """The server that they are forked from has not touched it; cuBLAS is configured before it starts."""
    found = []
    for name in ("one", "other"):
        store = Store(tmp_path / name)
        store.prepare()
        runs = [planned("glue/sst2", "loca"), planned("restaurants_nlg", "loca", options={"max_new_tokens": 4})]
        executor = LocalExecutor(("cuda:0",), RunOptions(threads=1, deterministic=True))
        records = list(executor.execute(runs, store, SilentProgress()))
        assert [(record.status, record.reason) for record in records] == [(Status.OK, None)] * 2
        histories = [(store.runs / record.run_id / HISTORY).read_text() for record in records]
        found.append([(record.metrics, history) for record, history in zip(records, histories, strict=True)])
    assert found[0] == found[1]


def test_runs_share_a_device_once_one_has_been_measured(planned, store):
    run = planned("glue/sst2", "lora", "train.max_steps=60")
    runs = [replace(run, spec=replace(run.spec, seed=seed)) for seed in (1, 2, 3)]
    records = list(LocalExecutor(("cuda:0", "cuda:0"), RunOptions(threads=1)).execute(runs, store, SilentProgress()))
    assert [record.status for record in records] == [Status.OK] * 3
    assert [record.cost.shared_device for record in records] == [False, True, True]


def test_a_worker_killed_for_time_leaves_the_device_to_the_next(planned, store):
    run = planned("glue/sst2", "lora", "train.max_steps=100000")
    short = planned()
    executor = LocalExecutor(("cuda:0",), RunOptions(minutes=0.5, threads=1))
    records = {record.run_id: record for record in executor.execute([run, short], store, SilentProgress())}
    assert records[run.spec.run_id].status is Status.TIMEOUT
    assert records[short.spec.run_id].status is Status.OK


def candidate(expression):
    method = find_method(expression).method
    size = {"n_frequency": 50} if expression == "loca" else {}
    return Candidate.of(expression, method, method.setting_type(**size))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_profile_of_two_methods(llama, tmp_path, dtype):
    work = Workload(str(llama), 2, 64, "cuda:0", dtype)
    candidates = (FROZEN_FLOOR, candidate("lora"), candidate("loca"))
    request = ProfileRequest(
        candidates, work, Repetitions(steps=3, warm_up=1, new_tokens=4), (2,), rounds=2, traces=tmp_path
    )
    found = run_profile(request, lambda text: None)
    assert [(measurement.status, measurement.reason) for measurement in found.measurements] == [(Status.OK, None)] * 6
    assert torch.cuda.get_device_name() in found.hardware["accelerator"]
    for row in rows_of(found):
        # Nothing of the accelerator's is left out, and peaks are of their phases alone.
        for phase in (FORWARD, BACKWARD, OPTIMISER, STEP, EVALUATION):
            assert row.memory[phase].reserved >= row.memory[phase].allocated > 0
        assert row.peak_device == max(memory.reserved for memory in row.memory.values())
        counted = row.breakdown
        assert row.memory[BACKWARD].allocated >= counted.weights + counted.adapter + counted.head
        assert row.timings[STEP].count == 6
        assert row.rates["step_tflops_per_second"] > 0
        assert row.joules is None or row.joules > 0
    for row in rows_of(found)[1:]:
        assert {MERGED, DECODE_MERGED} <= row.timings.keys()
        assert not [note for note in row.notes if "joules" not in note]
    events = json.loads((tmp_path / "loca.json").read_text())["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)


def test_the_largest_batch_is_found_and_the_device_is_left_free(llama):
    limit = 512 << 20
    request = ProfileRequest(
        (candidate("lora"),), Workload(str(llama), 1, 512, "cuda:0"), Repetitions(), (1,), 1, limit_bytes=limit
    )
    found = largest_batch(request, candidate("lora"), measure_in_subprocess, most=4096)
    assert found.batch > 0
    assert found.failed is not None
    assert "out of memory" in found.reason
    work = replace(request.workload, batch_size=found.batch)
    effort = Repetitions(steps=1, warm_up=1, parts=("training",))
    again = measure_in_subprocess(MeasurementJob(candidate("lora"), work, effort, counts=False, limit_bytes=limit))
    assert again.status is Status.OK, again.reason
    assert again.memory[STEP].reserved <= limit


def test_answers_do_not_depend_on_the_device_and_judging_moves_no_dice():
    # Sampled: the temperature of writing is 0.7.
    questions = [Question(number, "writing", (f"Say {number}.", "Again.")) for number in (1, 2)]

    def conversation(turns, answers):
        return Prompt(" ".join(turns), "none")

    texts_of = {}
    for device in (torch.device("cpu"), GPU):
        predictor = predictor_of(INSTRUCT, tiny_llama().to(device), device=device)
        texts_of[device] = answer(predictor, questions, conversation, 8).texts
    assert texts_of[torch.device("cpu")] == texts_of[GPU]
    model, tokenizer = tiny_llama().to(GPU), byte_tokenizer()
    torch.manual_seed(0)
    before = torch.cuda.get_rng_state(GPU)
    judge = InProcessJudge(model, tokenizer, "judge", max_new_tokens=4)
    first = judge.ask(({"role": "user", "content": "Rate."},), Sampling(temperature=1.0), threading.Event())
    assert first.completion_tokens <= 4
    assert torch.equal(torch.cuda.get_rng_state(GPU), before)


def test_a_run_that_is_asked_to_stop_goes_on_from_its_checkpoint(planned, store):
    run, steps = planned("glue/sst2", "loca", "train.max_steps=12", "train.checkpoint_steps=4"), []
    watch = RunHooks(lambda done, total, loss: steps.append(done), stop=lambda: bool(steps) and steps[-1] >= 6)
    with pytest.raises(StoppedError):
        execute_run(run, store, DataCache(), GPU, watch)
    record = execute_run(run, store, DataCache(), GPU)
    assert (record.status, record.cost.train_steps) == (Status.OK, 12)
