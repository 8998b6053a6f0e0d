"""Whole runs of tasks with images and text: the record, the ledger, resuming, a profile, and the page."""

import json

import pandas as pd
import pytest
import torch

from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.model_checks import check_training
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.profile.measure import measure
from parbench.bench.profile.measurement import BACKWARD, DECODE, FORWARD, MERGED, PREFILL
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload, kind_of
from parbench.bench.record.run_record import Status
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.train.protocol import Protocol
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.reports.frame import read_frame
from parbench.reports.html.page import Page, render_page
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.kinds.image_text import PICTURED
from parbench.tasks.vl.digits import ONE_DIGIT_QA
from tests.support.pictures import encoded, picture
from tests.support.training import interrupt_at
from tests.support.yaml_files import REFERENCE, task_file, write

CPU = torch.device("cpu")
# Of the tiny model: linear layers of 16 x 32 and 32 x 32 with their biases.
CONNECTOR = 16 * 32 + 32 + 32 * 32 + 32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.support.tiny_vlm import vlm_folder

    return vlm_folder(tmp_path_factory.mktemp("models") / "tiny-vlm")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    rows = []
    for number in range(40):
        (root / f"{number}.png").write_bytes(encoded(picture(seed=number)))
        rows.append({"image": f"{number}.png", "question": f"what is {number % 3}?", "answer": f"thing {number % 3}"})
    write(root / "train.jsonl", rows)
    write(root / "test.jsonl", rows[:20])
    fields = {
        "name": "my/shapes",
        "kind": "image_text",
        "reference": REFERENCE,
        "data": {"train": "train", "reported": "test"},
        "prompt": "{question}",
        "response": " {answer}",
        "metrics": ["exact_match", "chrf"],
        "options": {"max_new_tokens": 4},
    }
    return task_file(root, fields)


@pytest.fixture
def planned(store, shapes, model):
    def make(method="lora", task=None, budgets=None, **training):
        values = {"max_steps": 4, "max_length": 64, "batch_size": 8, **training}
        overrides = Overrides(
            methods=(method,),
            tasks=(str(task or shapes),),
            base_model=str(model),
            seeds=(1,),
            budgets=budgets,
            sets=tuple(f"train.{key}={value}" for key, value in values.items()),
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return make


def do(run, store, on_step=lambda done, total, loss: None):
    return execute_run(run, store, DataCache(), CPU, RunHooks(on_step))


def test_a_run_leaves_rows_a_ledger_and_pictures_for_the_page(planned, store):
    record = do(planned(), store)
    # LoRA of rank 8 on the query and value projections of one layer of the language model, 32 x 32 each.
    assert (record.ledger.reported, record.ledger.head) == (2 * 8 * 64, CONNECTOR)
    rows = pd.read_parquet(store.runs / record.run_id / "predictions.parquet")
    assert list(rows.columns) == [
        *("example", "subset", "text", "references", "exact_match", "chrf_statistics", "question", "picture")
    ]
    assert rows["picture"].notna().sum() == PICTURED
    assert record.metrics.keys() == {"exact_match", "chrf"}
    frame = read_frame(store)
    assert not frame.unreadable
    text = render_page(Page(frame=frame, boards=(), store=store))
    extra = json.loads(text.split('id="extras-data">')[1].split("</script>")[0].strip())
    assert extra["predictions"]["columns"][:3] == ["example", "question", "picture"]
    assert [row[2] for row in extra["predictions"]["rows"]] == [{"picture": place} for place in range(PICTURED)]
    thumbnails = json.loads(text.split('id="thumbnails-data">')[1].split("</script>")[0])
    assert len(thumbnails) == PICTURED
    assert all(content.startswith("/9j/") for content in thumbnails)


def test_a_resumed_run_equals_an_uninterrupted_one(planned, store, tmp_path):
    from parbench.bench.store.store import Store

    whole = do(planned(checkpoint_steps=1), store)
    other = Store(tmp_path / "other")
    other.prepare()
    with pytest.raises(KeyboardInterrupt):
        do(planned(checkpoint_steps=1), other, interrupt_at(2))
    resumed = do(planned(checkpoint_steps=1), other)
    assert resumed.run_id == whole.run_id
    assert resumed.metrics == whole.metrics
    assert resumed.selection_metrics == whole.selection_metrics


def test_a_budget_counts_the_adapter_alone(planned, store):
    record = do(planned("loca", budgets="1000"), store)
    assert 900 < record.ledger.reported <= 1000
    assert record.ledger.head == CONNECTOR


def test_a_connector_that_the_checkpoint_lacks_is_drawn_by_the_seed(model, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import set_seed

    from parbench.tasks.base import IMAGE_TEXT_MODEL

    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    tensors = load_file(bare / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "multi_modal_projector" not in name}
    assert len(kept) == len(tensors) - 4
    save_file(kept, bare / "model.safetensors", metadata={"format": "pt"})
    drawn = []
    for seed in (1, 1, 2):
        set_seed(seed)
        loaded = find_model(str(bare)).load(IMAGE_TEXT_MODEL, "")
        drawn.append(loaded.model.multi_modal_projector.linear_1.weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_packing_and_models_of_text_are_refused(planned, shapes, tiny_model, store):
    with pytest.raises(UserError, match=r"train\.packing puts several texts"):
        planned(packing="true")
    overrides = Overrides(methods=("lora",), tasks=(str(shapes),), base_model=str(tiny_model), seeds=(1,))
    with pytest.raises(UserError, match="needs a language model that sees images"):
        make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file))


def test_a_profile_times_a_text_with_an_image(model):
    assert kind_of(find_model(str(model))).modality == "image_text"
    choice = find_method("lora")
    candidate = Candidate.of("lora", choice.method, choice.method.setting_type())
    repetitions = Repetitions(steps=2, warm_up=1, new_tokens=3)
    found = measure(MeasurementJob(candidate, Workload(str(model), 3, 16, "cpu"), repetitions), CPU)
    assert found.status is Status.OK, found.reason
    assert {FORWARD, BACKWARD, PREFILL, DECODE, MERGED} <= found.seconds.keys()
    short = measure(MeasurementJob(candidate, Workload(str(model), 3, 4, "cpu"), repetitions), CPU)
    assert "an image is 4 tokens of this model" in short.reason


def test_in_no_step_the_untrained_connector_is_scored(planned, store, model):
    """What the model of the run's seed writes before training, by transformers' own ``generate``."""
    from transformers import set_seed

    from parbench.tasks.base import IMAGE_TEXT_MODEL

    run = planned("linear_probe", max_steps=0)
    record = do(run, store)
    assert (record.status, record.cost.train_steps, record.ledger.head) == (Status.OK, 0, CONNECTOR)
    set_seed(1)
    base = find_model(str(model)).load(IMAGE_TEXT_MODEL, "").eval()
    data = DataCache().of(run)
    rows = data.reported(run.spec).after(None).inputs.with_responses(None)
    rows_of_store = pd.read_parquet(store.runs / record.run_id / "predictions.parquet")
    for place, text in enumerate(rows_of_store["text"][:5]):
        one = rows[place]
        inputs = {"input_ids": torch.tensor([one["input_ids"]]), "pixel_values": one["pixel_values"]}
        found = base.generate(**inputs, do_sample=False, max_new_tokens=4, pad_token_id=0)
        written = data.processor.tokenizer.decode(found[0, len(one["input_ids"]) :], skip_special_tokens=True)
        assert text == written
    trained = do(planned("linear_probe"), store)
    assert trained.run_id != record.run_id
    rows_of_frame = set(read_frame(store).runs["row"])
    assert rows_of_frame == {"linear_probe (training.max_steps=0)", "linear_probe (training.max_steps=4)"}


def test_no_steps_have_no_epoch(planned):
    with pytest.raises(UserError, match="no epoch to select in 0 steps"):
        planned(max_steps=0, select_epoch="true")
    settings, method = TrainingSettings(max_steps=0), find_method("lora").method
    with pytest.raises(UserError, match=r"chooses an epoch, and train\.max_steps is 0"):
        check_training(settings, Protocol.PAPER_BEST_EPOCH, method, ONE_DIGIT_QA)
    check_training(settings, Protocol.STRICT, method, ONE_DIGIT_QA)


def test_the_linear_probe_trains_the_connector_alone(planned, store):
    record = do(planned("linear_probe"), store)
    assert (record.ledger.reported, record.ledger.head) == (0, CONNECTOR)
