"""Tasks over videos: data, frames, scores, and training on them."""

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from sklearn import metrics

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job, train
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.tasks.base import Modality
from parbench.tasks.data.video import moving_digits as generated
from parbench.tasks.data.video.clip_processor import ClipProcessor
from parbench.tasks.data.video.clip_rows import ClipRows, DrawnClips
from parbench.tasks.data.video.moving_digits import DIRECTIONS, LABELS, MovingDigitsSource
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.video_classification import TOP_5
from parbench.tasks.video import HMDB51, MOVING_DIGITS, SSV2, UCF101
from tests.support.clips import clip
from tests.support.image_models import processor
from tests.support.pictures import WAV
from tests.support.video_models import FRAMES, SIDE, videomae

CPU = torch.device("cpu")
OF_IMAGES, OF_CLIPS = ClipProcessor(processor(SIDE)), ClipProcessor(processor(SIDE), FRAMES, fixed=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def digits():
    return MOVING_DIGITS.splits(MovingDigitsSource())


@pytest.mark.parametrize("task", [HMDB51, UCF101, SSV2, MOVING_DIGITS], ids=lambda task: task.name)
def test_every_task_is_whole(task):
    assert task.modality is Modality.VIDEO
    assert task.kind == "video"
    assert task.primary == "accuracy"
    assert task.head.auto_class == "AutoModelForVideoClassification"
    assert task.head.num_labels == len(set(task.labels)) in (51, 101, 174, 40)
    assert task.data.hub is None
    assert task.unit(TOP_5).name == "fraction"


def test_labels_are_numbers_or_known_names():
    files = [clip(2), clip(3)]
    table = Dataset.from_dict({"video": files, "label": ["0 up", "7 right"]})
    checked = MOVING_DIGITS.check(table, "train")
    assert checked.column_names == ["video", "label"]
    assert [LABELS[label] for label in checked["label"]] == ["0 up", "7 right"]
    assert checked[0]["video"]["bytes"] == files[0]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"video": [], "label": []}, "is empty"),
        ({"film": [clip(2)], "label": [0]}, "has no column video"),
        ({"video": [clip(2)], "class": [0]}, "has no column label"),
        ({"video": ["clip.mp4"], "label": [0]}, "not videos"),
        ({"video": [3], "label": [0]}, "not videos"),
        ({"video": [clip(2), WAV], "label": [0, 0]}, "row 2 of the train split"),
        (
            {"video": [clip(2), None], "label": [0, 0]},
            "row 2 of the train split .* neither the bytes nor",
        ),
        ({"video": [clip(2)], "label": [40]}, "unknown label"),
    ],
)
def test_other_data_is_refused(columns, reason):
    with pytest.raises(UserError, match=reason):
        MOVING_DIGITS.check(Dataset.from_dict(columns), "train")


def test_a_model_of_clips_gets_frames_and_one_of_images_a_grid(digits):
    few = digits.train.select(range(3))
    assert MOVING_DIGITS.prepare(few, OF_CLIPS, 0)[0]["pixel_values"].shape == (4, 3, SIDE, SIDE)
    assert MOVING_DIGITS.prepare(few, OF_IMAGES, 0)[0]["pixel_values"].shape == (3, SIDE, SIDE)
    averaged = MOVING_DIGITS.configured({"fusion": "average", "frames": 5, "image_size": 12})
    assert averaged.prepare(few, OF_IMAGES, 0)[0]["pixel_values"].shape == (5, 3, 12, 12)


def test_frames_that_do_not_fit_are_refused(digits):
    few = digits.train.select(range(3))
    with pytest.raises(UserError, match="takes 4 frames only"):
        MOVING_DIGITS.configured({"frames": 6}).prepare(few, OF_CLIPS, 0)
    with pytest.raises(UserError, match="a grid of 3 by 3 frames does not fit into 8 x 8 pixels"):
        MOVING_DIGITS.configured({"frames": 9}).prepare(few, OF_IMAGES, 0)


def test_training_draws_frames_where_it_is_asked_to(digits):
    rows = MOVING_DIGITS.prepare(digits.train.select(range(3)), OF_CLIPS, 0)
    assert isinstance(MOVING_DIGITS.augmented(rows, 1), ClipRows)
    for options in ({"jitter": True}, {"augmentation": "flip"}):
        assert isinstance(MOVING_DIGITS.configured(options).augmented(rows, 1), DrawnClips)


def test_the_moving_digits_are_cut_in_three(digits):
    assert digits.sizes == {"train": 900, "selection": 250, "reported": 647}
    counts = [pd.Series(split["label"][:]).value_counts() for split in digits.by_name.values()]
    assert all(len(count) == 40 for count in counts)
    assert counts[0].min() >= 20
    assert MovingDigitsSource().revision(MOVING_DIGITS.data) == MovingDigitsSource().revision(MOVING_DIGITS.data)


def test_a_clip_backwards_is_one_of_the_opposite_direction():
    """So that the frames without their order do not tell the direction, also those that are read of a clip."""
    clips, labels = generated.moving_digits()
    read = MOVING_DIGITS.options.frames
    numbers = [round((part + 0.5) * 12 / read - 0.5 + 1e-9) for part in range(read)]
    assert [11 - number for number in numbers[::-1]] == numbers
    for row in range(0, len(clips), 97):
        digit, direction = divmod(int(labels[row]), 4)
        places = [np.argwhere(frame).mean(axis=0) for frame in clips[row]]
        moved = places[-1] - places[0]
        expected = {"right": (0, 8), "left": (0, -8), "down": (8, 0), "up": (-8, 0)}[DIRECTIONS[direction]]
        assert moved.tolist() == pytest.approx(expected)
        assert LABELS[labels[row]].startswith(f"{digit} ")
        steps = np.array(places)
        middle = steps[[1, 4, 7, 10]]
        assert np.allclose((middle - steps[0]) + (middle[::-1] - steps[0]), expected)


def test_the_files_have_the_pixels_that_were_made(digits):
    clips, labels = generated.moving_digits()
    task = MOVING_DIGITS.configured({"frames": 12, "fusion": "average"})
    rows = task.prepare(digits.reported.select([0, 5]), OF_IMAGES, 0)
    for row in (0, 1):
        frames = next(rows.each([row], lambda found: found))[:, :, :, 0]
        (place,) = [at for at in range(len(clips)) if np.array_equal(clips[at], frames)]
        assert labels[place] == rows[row]["labels"]


def test_scores_are_scikit_learns():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(200, 174)).astype("float32"), draw.integers(0, 174, 200)
    logits[np.arange(200), labels] += 1.0

    class Fixed:
        def logits(self, rows):
            return logits

    examples = {"example": list(map(str, range(200))), "subset": [""] * 200, "label": labels.tolist()}
    frame = SSV2.predict(Fixed(), Dataset.from_dict(examples), None)
    scores = SSV2.score(frame)
    assert scores["accuracy"] == metrics.accuracy_score(labels, logits.argmax(axis=1))
    expected = metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(174))
    assert scores[TOP_5] == pytest.approx(expected)
    without = SSV2.leave_one_out(frame, TOP_5)
    assert without[3] == pytest.approx(frame[TOP_5].drop(3).mean())


def test_equal_logits_do_not_count_as_right():
    examples = Dataset.from_dict({"example": ["a", "b"], "subset": ["", ""], "label": [173, 2]})
    frame = SSV2.predict(type("Flat", (), {"logits": lambda self, rows: np.zeros((2, 174))})(), examples, None)
    assert frame[TOP_5].tolist() == [False, True]


def learner(folder, rows, task, steps, stop=None, checkpoint_steps=4):
    torch.manual_seed(0)
    base = videomae(len(task.labels))
    names = module_names(base)
    method = METHODS["full"]
    setting = method.setting_type(learning_rate=3e-3, head_learning_rate=3e-3)
    model = method.adapt(base, names, setting)
    job = Job(
        model=model,
        groups=method.parameter_groups(model, names, setting),
        callbacks=[],
        task=task,
        data=rows,
        collate=task.collate(None),
        settings=TrainingSettings(max_steps=steps, batch_size=8, warmup_ratio=0.1, checkpoint_steps=checkpoint_steps),
        seed=1,
        device=CPU,
        workspace=folder,
    )
    if stop:
        job.on_step = stop
    return model, job


@pytest.mark.slow
def test_a_tiny_model_of_clips_learns_the_direction(tmp_path, digits):
    """Of one digit: chance is a quarter."""
    zeros = digits.train.filter(lambda row: row["label"] < 4)
    rows = MOVING_DIGITS.prepare(zeros, OF_CLIPS, 0)
    model, job = learner(tmp_path, rows, MOVING_DIGITS, 120, checkpoint_steps=120)
    train(job)
    reported = digits.reported.filter(lambda row: row["label"] < 4)
    predictor = Predictor(model, None, MOVING_DIGITS.collate(None), 32, CPU)
    frame = MOVING_DIGITS.predict(predictor, reported, MOVING_DIGITS.prepare(reported, OF_CLIPS, 0))
    assert frame["label"].tolist() == reported["label"][:]
    assert MOVING_DIGITS.score(frame)["accuracy"] > 0.6


class MachineDownError(Exception):
    """Stands for a machine that goes down."""


def test_a_training_on_drawn_frames_that_was_cut_ends_as_one_in_one_go(tmp_path, digits):
    task = MOVING_DIGITS.configured({"jitter": True, "augmentation": "flip"})

    def at_nine(done, total, loss):
        if done == 9:
            raise MachineDownError

    def prepared(folder, stop=None):
        rows = task.augmented(task.prepare(digits.train.select(range(40)), OF_CLIPS, 0), 1)
        return learner(tmp_path / folder, rows, task, 13, stop=stop)

    whole, job = prepared("whole")
    train(job)
    with pytest.raises(MachineDownError):
        train(prepared("cut", at_nine)[1])
    resumed, job = prepared("cut")
    train(job)
    for (name, first), (_, second) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(first, second), name


def test_probabilities_are_averaged_over_views_and_crops(digits):
    torch.manual_seed(0)
    model, examples = videomae(40).eval(), digits.reported.select(range(5))
    options = {"frames": FRAMES, "fusion": "average", "image_size": SIDE, "stride": 1}
    plain = MOVING_DIGITS.configured(options)
    seen = plain.configured({"views": 2, "crops": 3})
    rows = seen.prepare(examples, OF_CLIPS, 1)
    predictor = Predictor(model, OF_CLIPS, seen.collate(OF_CLIPS), 2, CPU)
    frame = seen.predict(predictor, examples, rows)
    views = [torch.stack([row["pixel_values"] for row in view.__getitems__(range(5))]) for view in rows.views(2, 3)]
    with torch.no_grad():
        by_hand = torch.stack([model(pixel_values=view).logits.softmax(1) for view in views]).mean(0).numpy()
    np.testing.assert_allclose(np.exp(np.stack(frame["logits"])), by_hand, rtol=1e-4)
    assert frame["prediction"].tolist() == by_hand.argmax(axis=1).tolist()
    # What is reported once; settings and epochs are chosen by one view.
    single = seen.selected_by.predict(predictor, examples, rows)
    np.testing.assert_array_equal(
        np.stack(single["logits"]), np.stack(plain.predict(predictor, examples, rows)["logits"])
    )
    assert not np.allclose(np.stack(single["logits"]), np.stack(frame["logits"]))
