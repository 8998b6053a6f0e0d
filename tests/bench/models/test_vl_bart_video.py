"""VL-BART over given features with random weights: what it computes, its parts, whole runs, and methods on it."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection, set_seed

from parbench.bench.models.catalogue import find_model
from parbench.bench.models.vl_bart_parts import join_for_videos
from parbench.bench.models.vl_bart_video import in_boxes
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.profile.measure import measure
from parbench.bench.profile.measurement import BACKWARD, DECODE, FORWARD, MERGED, PREFILL
from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS, find_method
from parbench.methods.architecture import module_names
from parbench.methods.selection import adapted_modules
from parbench.methods.testing import check_method
from parbench.tasks import TASKS
from parbench.tasks.base import FEATURES_TEXT_MODEL, IMAGE_TEXT_MODEL, Modality
from parbench.tasks.data.features import load
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.metrics import java
from tests.support.clips import clip, number_of, numbered_frame
from tests.support.tiny_llama import byte_tokenizer
from tests.support.tiny_vl_bart import vl_bart_folder
from tests.support.tiny_vl_bart_video import (
    BOXES,
    TINY_VL_BART_VIDEO,
    tiny_vl_bart_video,
    vl_bart_video_folder,
    vl_bart_video_processor,
)
from tests.support.tiny_vlm import predictor_of
from tests.support.value_files import SIZE, value_folder

NEEDS_JAVA = pytest.mark.skipif(java.missing() is not None, reason="needs Java")
# Of width 64: a linear layer and its norm, a video's number, and the boxes'.
EMBEDDING = SIZE * 64 + 64 + 2 * 64 + 64 + BOXES * 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    value_folder(root)
    return root


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_vl_bart_video()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return vl_bart_video_folder(tmp_path_factory.mktemp("models") / "tiny-vl-bart-video")


def rows_of(name, root, count=4):
    task = TASKS[name]
    data = task.splits(DataLocation("hub", str(root / "lock.json"), str(root)).source(task)).train
    return task, data.select(range(count)), task.prepare(data.select(range(count)), vl_bart_video_processor(), 400)


def test_features_are_pooled_or_filled_up_as_in_the_published_code():
    """``resize`` of VL-Adapter's ``tvqa_data.py``: zeros behind a short video, adaptive max pooling of a long one."""
    few = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert in_boxes(few, 3).tolist() == [[1.0, -2.0], [3.0, 4.0], [0.0, 0.0]]
    many = torch.tensor([[float(n), -float(n)] for n in range(7)])
    # Windows from floor(7 i / 3) to ceil(7 (i + 1) / 3): 0-2, 2-4, 4-6.
    assert in_boxes(many, 3).tolist() == [[2.0, 0.0], [4.0, -2.0], [6.0, -4.0]]
    assert torch.equal(in_boxes(many, 7), many)


def test_a_row_has_the_prompt_for_the_encoder_the_answer_for_the_decoder_and_the_features(root):
    _, data, rows = rows_of("vl/tvqa", root)
    row = rows[1]
    tokenizer = vl_bart_video_processor().tokenizer
    assert tokenizer.decode(row["input_ids"]).endswith("a4: Because of 5. tvqa: ")
    assert tokenizer.decode(row["labels"][1:]) == "<s> a1</s>"
    expected = in_boxes(torch.from_numpy(load(data[1]["features"], "it")), BOXES)
    assert torch.equal(row["features"], expected[None, None])


def test_what_is_seen_are_the_embeddings_of_the_features_in_their_order(model):
    features = torch.randn(2, 1, BOXES, SIZE)
    ids, mask = torch.randint(3, 250, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
    words = torch.randint(3, 250, (2, 5))
    embedding = model.visual_embedding
    with torch.no_grad():
        seen = embedding.feature(features[:, 0]) + embedding.image_order.weight[0] + embedding.box_order.weight
        read = model.read(ids, mask, seen, torch.ones(2, BOXES, dtype=torch.bool))
        expected = model.answered(*read, words).logits
        found = model(ids, mask, features, words).logits
        swapped = model(ids, mask, features.flip(2), words).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, swapped, rtol=1e-2, atol=1e-2)


def test_likelihoods_and_texts_do_not_depend_on_the_batch(model, root):
    processor = vl_bart_video_processor()
    task, data, rows = rows_of("vl/tvc", root)
    found = [predictor_of(task, model, processor, batch_size=size).log_likelihoods(rows) for size in (1, 4)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    task, data, rows = rows_of("vl/tvqa", root)
    frames = [task.predict(predictor_of(task, model, processor, batch_size=size), data, rows) for size in (1, 4)]
    np.testing.assert_allclose(
        np.stack(frames[0]["log_likelihoods"]), np.stack(frames[1]["log_likelihoods"]), rtol=1e-4
    )
    assert {"example", "label", "prediction", "accuracy"} <= set(frames[0])


def test_it_is_saved_and_loaded_as_a_base_model(folder):
    base = find_model(str(folder))
    assert base.auto_class == "AutoModelForSeq2SeqLM"
    base.check("", FEATURES_TEXT_MODEL)
    loaded = base.load(FEATURES_TEXT_MODEL, "").eval()
    processor = base.processor(Modality.FEATURES_TEXT, "")
    assert (processor.feature_size, processor.boxes, processor.decoder_start_token_id) == (SIZE, BOXES, 2)
    torch.manual_seed(0)
    first, second = tiny_vl_bart_video().state_dict(), loaded.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(UserError, match="the task needs a language model that sees images"):
        base.check("", IMAGE_TEXT_MODEL)


def test_it_is_put_together_from_bart(tmp_path, model):
    model.language_model.save_pretrained(tmp_path / "bart")
    byte_tokenizer().save_pretrained(tmp_path / "bart")
    folder = join_for_videos(str(tmp_path / "bart"), tmp_path / "joined", feature_size=SIZE, boxes=BOXES)
    base = find_model(str(folder))
    drawn = []
    for seed in (1, 2):
        set_seed(seed)
        loaded = base.load(FEATURES_TEXT_MODEL, "").eval()
        drawn.append(loaded.visual_embedding.feature[0].weight.detach().clone())
    assert not torch.equal(*drawn)
    found = loaded.language_model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.language_model.state_dict().items())
    assert base.processor(Modality.FEATURES_TEXT, "").boxes == BOXES


def test_the_registered_model_says_how_to_put_it_together():
    with pytest.raises(UserError, match="join_for_videos"):
        find_model("vl-bart-video").load(FEATURES_TEXT_MODEL, "")
    with torch.device("meta"):
        skeleton = find_model("vl-bart-video").skeleton(FEATURES_TEXT_MODEL)
    assert 139e6 < sum(parameter.numel() for parameter in skeleton.parameters()) < 141e6


def planned(root, folder, task, store, method="lora", **sets):
    values = {"train.max_steps": 3, "train.max_length": 300, "train.batch_size": 4, **sets}
    overrides = Overrides(
        methods=(method,),
        tasks=(task,),
        base_model=str(folder),
        seeds=(1,),
        sets=tuple(f"{key}={value}" for key, value in values.items()),
        data_root=root,
    )
    return make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs[0]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("vl/tvqa", {"prediction", "log_likelihoods"}),
        ("vl/how2qa", {"prediction", "log_likelihoods"}),
        pytest.param("vl/tvc", {"text", "references", "cider"}, marks=NEEDS_JAVA),
        pytest.param("vl/yc2c", {"text", "references", "cider"}, marks=NEEDS_JAVA),
    ],
)
def test_a_run_trains_and_answers(root, folder, store, name, columns):
    record = execute_run(planned(root, folder, name, store), store, DataCache(), torch.device("cpu"), RunHooks())
    assert record.status == "ok", record.reason
    # LoRA of rank 8 on query and value of the encoder, the decoder, and between the two: 64 x 64 each.
    assert (record.ledger.reported, record.ledger.head) == (3 * 2 * 8 * 128, EMBEDDING)
    assert record.examples["reported"] == 4
    assert set(record.metrics) == ({"accuracy"} if "prediction" in columns else {"cider", "bleu_4"})
    rows = pd.read_parquet(store.runs / record.run_id / "predictions.parquet")
    assert len(rows) == 4
    assert columns <= set(rows)


def test_a_model_of_images_and_features_of_another_size_are_refused_before_training(root, folder, store, tmp_path):
    from tests.support.tiny_vlm import vlm_folder

    with pytest.raises(UserError, match=r"needs a language model that is given the features of a video, such as vl-b"):
        planned(root, vlm_folder(tmp_path / "vlm"), "vl/tvqa", store)
    with pytest.raises(UserError, match="a language model that sees images"):
        planned(root, folder, "vl/digits_qa", store)
    with pytest.raises(UserError, match='and the base model "minilm-l6" is a bert'):
        planned(root, "minilm-l6", "vl/tvqa", store)
    torch.manual_seed(0)
    other = vl_bart_video_processor()
    other.feature_size = 9
    tiny_vl_bart_video().save_pretrained(tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    run = planned(root, tmp_path / "other", "vl/tvqa", store)
    record = execute_run(run, store, DataCache(), torch.device("cpu"), RunHooks())
    assert "the video of example train:0 has features of 6 numbers, and the base model takes 9" in record.reason


@pytest.mark.parametrize("kind", ["features", "images"])
def test_a_profile_times_what_is_read_and_what_is_written(folder, kind, tmp_path):
    model = folder if kind == "features" else vl_bart_folder(tmp_path / "vl-bart")
    choice = find_method("lora")
    candidate = Candidate.of("lora", choice.method, choice.method.setting_type())
    repetitions = Repetitions(steps=1, warm_up=1, new_tokens=3)
    workload = Workload(str(model), 2, 12, "cpu")
    floor = measure(MeasurementJob(FROZEN_FLOOR, workload, Repetitions(1, 1, 1, ("training",))), torch.device("cpu"))
    assert floor.status is Status.OK, floor.reason
    found = measure(MeasurementJob(candidate, workload, repetitions), torch.device("cpu"))
    assert found.status is Status.OK, found.reason
    assert {FORWARD, BACKWARD, PREFILL, DECODE, MERGED} <= found.seconds.keys()
    assert len(found.seconds[DECODE]) == 2


def test_adapters_are_on_bart_and_the_visual_embedding_is_the_head():
    model = TINY_VL_BART_VIDEO.build()
    names = module_names(model)
    adapted = METHODS["lora"].adapt(model, names, METHODS["lora"].setting_type())
    assert names.head == ("visual_embedding",)
    assert len(adapted_modules(adapted)) == 2 * 3
    with pytest.raises(UserError, match='no module of the vision_tower is called "q_proj"'):
        METHODS["lora"].adapt(
            TINY_VL_BART_VIDEO.build(), names, METHODS["lora"].setting_type(target_modules=("vision_tower:q_proj",))
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "loca", "dora", "vera", "fourierft", "replora"])
def test_a_method_keeps_the_contract_on_given_features(name):
    report = check_method(METHODS[name], model=TINY_VL_BART_VIDEO)
    assert not report.failures, f"\n{report}"


@pytest.fixture
def clip_model(tmp_path):
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    config.projection_dim = SIZE
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    CLIPImageProcessor(**size).save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


def test_features_are_computed_from_videos_one_per_segment(tmp_path, clip_model):
    from parbench.bench.models import video_features
    from parbench.tasks.data.video.decoding import frames_every

    videos = tmp_path / "videos"
    videos.mkdir()
    # Ten frames per second: the middles of segments of 1.5 seconds are the frames 7, 22 and 37.
    (videos / "long.mp4").write_bytes(clip(45, "mp4"))
    (videos / "short.avi").write_bytes(clip(3, "avi"))
    seen = list(frames_every((videos / "long.mp4").read_bytes(), 1.5, None, "it"))
    assert [number_of(frame) for frame in seen] == [7, 22, 37]
    assert video_features.compute(videos, tmp_path / "features", model=clip_model, batch_size=2) == 2
    found = load(tmp_path / "features" / "long.npz", "it")
    tower = CLIPVisionModelWithProjection.from_pretrained(clip_model).eval()
    pixels = CLIPImageProcessor.from_pretrained(clip_model)(seen, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = tower(pixels).image_embeds.numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
    assert load(tmp_path / "features" / "short.npz", "it").shape == (1, SIZE)
    assert video_features.compute(videos, tmp_path / "features", model=clip_model) == 0
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["long.npz", "short.npz"]
    (videos / "long.webm").write_bytes(b"")
    with pytest.raises(UserError, match=r"would both be long\.npz"):
        video_features.compute(videos, tmp_path / "features", model=clip_model)
    (videos / "long.webm").rename(videos / "broken.webm")
    with pytest.raises(UserError, match=r'the video \(".*broken.webm"\) cannot be read as a video: it is empty'):
        video_features.compute(videos, tmp_path / "features", model=clip_model)
    with pytest.raises(UserError, match="there is no folder"):
        video_features.compute(tmp_path / "none", tmp_path / "features", model=clip_model)


def test_a_frame_that_is_shown_for_long_is_in_several_segments():
    from parbench.tasks.data.video.decoding import frames_every

    pictures = [numbered_frame(number) for number in range(4)]
    content = clip(kind="mp4", pictures=pictures, times=[0, 1, 50, 51])
    assert [number_of(frame) for frame in frames_every(content, 1.0, None, "it")] == [1, 1, 1, 1, 1]
