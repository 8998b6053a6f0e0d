import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from sklearn import metrics

from parbench.bench.util.errors import UserError
from parbench.tasks import vtab
from parbench.tasks.base import Modality
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.kinds.image_classification import ImageClassification
from parbench.tasks.vision import CIFAR10, CIFAR100, DIGITS, EUROSAT, OXFORD_PETS
from tests.support.image_models import ALL, processor
from tests.support.pictures import WAV, encoded, images, picture


def predicted(labels, predictions, subsets=None):
    return pd.DataFrame({"label": labels, "prediction": predictions, "subset": subsets or [""] * len(labels)})


def test_the_names_of_the_tasks():
    names = [task.name for task in ALL if not task.name.startswith("vtab/")]
    assert sorted(set(names)) == [
        *(f"fgvc/{name}" for name in ("cub200", "nabirds", "oxford_flowers", "stanford_cars", "stanford_dogs")),
        *(f"vision/{name}" for name in ("cifar10", "cifar100", "digits", "digits_few", "dtd", "eurosat")),
        *(f"vision/{name}" for name in ("fgvc_aircraft", "oxford_pets", "resisc45", "stanford_cars")),
    ]
    assert {task.name for task in ALL if task.name.startswith("vtab/")} == {f"vtab/{name}" for name in vtab.NAMES}
    assert len(vtab.NAMES) == len(set(vtab.NAMES)) == 19


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_every_task_is_whole(task, tmp_path):
    assert task.modality is Modality.IMAGE
    assert task.primary == "accuracy"
    assert task.head.auto_class == "AutoModelForImageClassification"
    assert task.head.num_labels == len(set(task.labels)) > 1
    assert "there is no folder" in FolderSource(tmp_path).missing(task.data)
    assert task.data.hub is None or task.data.hub.revision is None


def test_labels_are_numbers_or_known_names():
    assert CIFAR10.check(images([9, 0]), "train")["label"][:] == [9, 0]
    table = {"image": [encoded(picture())] * 2, "label": ["truck", "cat"]}
    assert CIFAR10.check(Dataset.from_dict(table), "train")["label"][:] == [9, 3]


def test_a_list_of_names_decides_what_the_numbers_mean():
    shuffled = list(reversed(CIFAR10.labels))
    assert CIFAR10.check(images([0, 9], names=shuffled), "train")["label"][:] == [9, 0]
    numbers = sorted(map(str, range(100)))  # "10" comes before "2"
    assert CIFAR100.check(images([2], names=numbers), "train")["label"][:] == [10]
    unknown = [f"breed {number}" for number in range(37)]
    assert OXFORD_PETS.check(images([2, 36], names=unknown), "train")["label"][:] == [2, 36]


def test_columns_may_be_called_as_on_the_hub():
    checked = CIFAR100.check(images([99], column="img", label="fine_label"), "train")
    assert checked.column_names == ["image", "label"]


@pytest.mark.parametrize(
    ("task", "dataset", "complaint"),
    [
        (OXFORD_PETS, images([]), "the test split of vision/oxford_pets is empty"),
        (CIFAR10, images([0], column="photo"), "has no column image or img; it has photo, label"),
        (CIFAR100, images([0], label="coarse"), "has no column label or fine_label; it has image, coarse"),
        (OXFORD_PETS, images([0, 37]), "unknown label 37 in row 2; it may be 0 to 36$"),
        (OXFORD_PETS, images([-1]), "unknown label -1 in row 1"),
        (OXFORD_PETS, images([None]), "no label in row 1"),
        (
            EUROSAT,
            images([0], names=["a", "b"]),
            r"vision/eurosat, column label, has 2 classes \(a, b\), and the task has 10",
        ),
        (CIFAR10, images([0], names=list("abcdefghij")), "has the classes a, b.*; they must be airplane, automobile"),
        (OXFORD_PETS, images([0], files=[WAV]), "row 1 of the test split of vision/oxford_pets cannot be read"),
    ],
)
def test_data_of_another_task_is_refused(task, dataset, complaint):
    with pytest.raises(UserError, match=complaint):
        task.check(dataset, "test")


def test_unknown_names_and_halves_are_not_labels():
    for label in ("frog?", 0.5, True):
        table = {"image": [encoded(picture())], "label": [label]}
        with pytest.raises(UserError, match=r"unknown label .* it may be airplane, .*, or a number from 0 to 9"):
            CIFAR10.check(Dataset.from_dict(table), "test")


def test_wrong_options_are_refused():
    assert CIFAR10.configured({"image_size": 96, "augmentation": "flip"}).options.image_size == 96
    for options in ({"image_size": 0}, {"augmentation": "mixup"}, {"interpolation": "sinc"}, {"size": 3}):
        with pytest.raises(UserError, match="an option of vision/cifar10"):
            CIFAR10.configured(options)


def test_scores_are_scikit_learns():
    draw = np.random.default_rng(0)
    labels, predictions = draw.integers(0, 5, 300), draw.integers(0, 5, 300)
    scores = OXFORD_PETS.score(predicted(labels, predictions))
    assert scores == {
        "accuracy": pytest.approx(metrics.accuracy_score(labels, predictions)),
        "mean_per_class_accuracy": pytest.approx(metrics.balanced_accuracy_score(labels, predictions)),
    }


def test_scores_by_hand(recwarn):
    # Class 0: 1 of 3, class 4: 1 of 1; class 7 is predicted and never there.
    scores = CIFAR10.score(predicted([0, 0, 0, 4], [0, 4, 7, 4]))
    assert scores == {"accuracy": 0.5, "mean_per_class_accuracy": pytest.approx((1 / 3 + 1) / 2)}
    assert not recwarn.list


def test_leaving_one_out_is_scoring_without_it():
    draw = np.random.default_rng(1)
    labels = np.append(draw.integers(0, 4, 60), 9)  # one class has one example
    frame = predicted(labels, np.where(draw.random(61) < 0.5, labels, 0))
    expected = [CIFAR10.score(frame.drop(index=row))["mean_per_class_accuracy"] for row in frame.index]
    assert CIFAR10.leave_one_out(frame, "mean_per_class_accuracy") == pytest.approx(np.array(expected))
    assert CIFAR10.leave_one_out(frame, "unheard_of") is None
    assert np.isnan(CIFAR10.leave_one_out(frame.iloc[:1], "mean_per_class_accuracy")).all()


def test_the_loss_is_torchs():
    logits, labels = torch.randn(4, 10), torch.tensor([0, 9, 3, 3])
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.equal(CIFAR10.loss(logits, labels, 0.1), expected)


def test_real_images_of_cifar10(real_data):
    splits = CIFAR10.splits(FolderSource(real_data))
    assert splits.sizes == {"train": 4500, "selection": 500, "reported": 2000}
    assert set(splits.train["example"]).isdisjoint(splits.selection["example"])
    assert np.bincount(splits.train["label"][:]).tolist() == [450] * 10
    assert splits.train.column_names == ["image", "label", "example", "subset"]
    rows = CIFAR10.prepare(splits.reported, processor(32), 0)
    batch = CIFAR10.collate(None)([rows[row] for row in range(0, 2000, 50)])
    assert batch["pixel_values"].shape == (40, 3, 32, 32)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["labels"].tolist() == splits.reported["label"][::50]
    # Mean and deviation of natural images under (x - 1/2) / (1/2), broadly.
    assert abs(batch["pixel_values"].mean()) < 0.3
    assert 0.3 < batch["pixel_values"].std() < 0.7


@pytest.mark.parametrize("name", ["dtd10", "clothing10", "mnist-test"])
def test_real_images_of_other_kinds(real_data, name):
    from parbench.tasks.data.source import DataRef

    task = ImageClassification(
        name=f"vision/{name}",
        reference=DIGITS.reference,
        data=DataRef(name, "train", {"": "test"}),
        labels=DIGITS.labels,
    )
    if name == "mnist-test":
        (dataset,) = FolderSource(real_data).load(DataRef(name, "test", {})).values()
        rows = task.prepare(task.check(dataset, "test"), processor(28), 0)
    else:
        rows = task.prepare(task.splits(FolderSource(real_data)).reported, processor(32), 0)
    assert torch.isfinite(torch.stack([rows[row]["pixel_values"] for row in range(0, len(rows), 97)])).all()
