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
from parbench.methods.architecture import ModuleNames, module_names
from parbench.tasks import fgvc, vision, vtab
from parbench.tasks.base import Modality
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.image_rows import AugmentedRows, ImageRows
from parbench.tasks.inference import Predictor
from parbench.tasks.kinds.image_classification import ImageClassification
from parbench.tasks.vision import CIFAR10, CIFAR100, DIGITS, EUROSAT, OXFORD_PETS
from tests.support.pictures import WAV, encoded, images, picture

CPU = torch.device("cpu")
ALL = [
    task for module in (vision, fgvc, vtab) for task in vars(module).values() if isinstance(task, ImageClassification)
]


def processor(side=8):
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": side, "width": side}, do_convert_rgb=True)


def vit(side=8, labels=10, width=48):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=side,
        patch_size=side // 4,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        num_labels=labels,
    )
    return ViTForImageClassification(config)


def predicted(labels, predictions, subsets=None):
    return pd.DataFrame({"label": labels, "prediction": predictions, "subset": subsets or [""] * len(labels)})


def test_the_names_of_the_tasks():
    names = [task.name for task in ALL if not task.name.startswith("vtab/")]
    assert sorted(set(names)) == [
        *(f"fgvc/{name}" for name in ("cub200", "nabirds", "oxford_flowers", "stanford_cars", "stanford_dogs")),
        *(f"vision/{name}" for name in ("cifar10", "cifar100", "digits", "dtd", "eurosat", "fgvc_aircraft")),
        *(f"vision/{name}" for name in ("oxford_pets", "resisc45", "stanford_cars")),
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


def test_unknown_names_and_halves_are_no_labels():
    for label in ("frog?", 0.5, True):
        table = {"image": [encoded(picture())], "label": [label]}
        with pytest.raises(UserError, match=r"unknown label .* it may be airplane, .*, or a number from 0 to 9"):
            CIFAR10.check(Dataset.from_dict(table), "test")


def test_wrong_options_are_refused():
    assert CIFAR10.configured({"image_size": 96, "augmentation": "flip"}).options.image_size == 96
    for options in ({"image_size": 0}, {"augmentation": "mixup"}, {"interpolation": "sinc"}, {"size": 3}):
        with pytest.raises(UserError, match="the options of vision/cifar10"):
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


def adapted(method, model, names=None, **setting):
    """Return an adapted model and a training job of its own parameters."""
    names = names or module_names(model)
    chosen = METHODS[method].setting_type(**setting)
    wrapped = METHODS[method].adapt(model, names, chosen)
    return wrapped, METHODS[method].parameter_groups(wrapped, names, chosen)


def job(folder, model, groups, rows, task=DIGITS, **settings):
    return Job(
        model=model,
        groups=groups,
        callbacks=[],
        task=task,
        data=rows,
        collate=task.collate(None),
        settings=TrainingSettings(**{"batch_size": 32, "warmup_ratio": 0.1, **settings}),
        seed=1,
        device=CPU,
        workspace=folder,
    )


@pytest.fixture(scope="module")
def digits():
    return DIGITS.splits(DIGITS.own_source)


def test_the_digits_are_cut_in_three(digits):
    assert digits.sizes == {"train": 808, "selection": 270, "reported": 719}
    examples = [set(part["example"]) for part in (digits.train, digits.selection, digits.reported)]
    assert len(set.union(*examples)) == 1797


@pytest.mark.parametrize(
    ("method", "setting", "chance"),
    [
        ("full", {"learning_rate": 3e-3, "head_learning_rate": 3e-3}, 0.5),
        ("linear_probe", {"head_learning_rate": 3e-1}, 0.2),
    ],
)
def test_digits_are_learned_far_above_chance(tmp_path, digits, method, setting, chance):
    """By a tiny model from scratch: chance is 0.1, with a standard error of 0.011 on 719 images."""
    rows = DIGITS.prepare(digits.train, processor(), 0)
    model, groups = adapted(method, vit(), **setting)
    train(job(tmp_path, model, groups, rows, max_steps=120))
    predictor = Predictor(model, None, DIGITS.collate(None), 128, CPU)
    frame = DIGITS.predict(predictor, digits.reported, DIGITS.prepare(digits.reported, processor(), 0))
    assert frame["label"].tolist() == digits.reported["label"][:]
    assert len(frame["logits"][0]) == 10
    scores = DIGITS.score(frame)
    assert scores["accuracy"] > chance
    assert scores["accuracy"] == metrics.accuracy_score(frame["label"], frame["prediction"])


class MachineDownError(Exception):
    """Stands for a machine that goes down."""


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_training_cut_within_an_epoch_ends_as_one_in_one_go(tmp_path, digits, method, accumulation):
    """Bit for bit, on augmented images: the second epoch's crops are drawn again where it is resumed."""
    task = DIGITS.configured({"augmentation": "crop_flip", "fit": "crop"})
    small = task.prepare(digits.train.select(range(40)), processor(), 0)
    settings = {"max_steps": 13, "batch_size": 8 // accumulation, "gradient_accumulation": accumulation}

    def prepared(folder):
        model, groups = adapted(method, vit(width=16), learning_rate=1e-3, head_learning_rate=1e-3)
        rows = task.augmented(small, 1)
        assert isinstance(rows, AugmentedRows)
        return job(folder, model, groups, rows, task, checkpoint_steps=4, **settings)

    def cut_at_nine(done, total, loss):
        if done == 9:  # the checkpoint of step 8 is within the second epoch of five steps
            raise MachineDownError

    whole, cut, resumed = (prepared(tmp_path / name) for name in ("whole", "cut", "cut"))
    train(whole)
    cut.on_step = cut_at_nine
    with pytest.raises(MachineDownError):
        train(cut)
    train(resumed)
    pairs = zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True)
    for (name, first), (_, second) in pairs:
        assert torch.equal(first, second), name


def test_every_epoch_is_augmented_anew_and_alike_in_every_training(tmp_path, digits):
    task = DIGITS.configured({"augmentation": "crop_flip", "fit": "crop"})
    small = task.prepare(digits.train.select(range(8)), processor(), 0)
    seen = {}

    class Watched(AugmentedRows):
        def __getitem__(self, row):
            found = super().__getitem__(row)
            seen.setdefault((self.run, row), []).append(found["pixel_values"])
            return found

    for run in (0, 1):
        rows = Watched(small, "crop_flip", 1)
        rows.run = run
        model, groups = adapted("lora", vit(width=16))
        train(job(tmp_path / str(run), model, groups, rows, task, max_steps=6, batch_size=4))
    for row in range(8):
        assert len(seen[0, row]) == 3
        assert all(torch.equal(first, second) for first, second in zip(seen[0, row], seen[1, row], strict=True))
    assert any(not torch.equal(seen[0, row][0], seen[0, row][1]) for row in range(8))


# timm's vision transformers inside transformers: one projection for query, key and value.
TIMM = ModuleNames("attn.qkv", "attn.qkv", "attn.qkv", "attn.proj", ("head",))


def timm_vit():
    from transformers import AutoModelForImageClassification, TimmWrapperConfig

    torch.manual_seed(0)
    small = {"img_size": 8, "patch_size": 4, "depth": 2, "embed_dim": 24, "num_heads": 2}
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", num_labels=10, model_args=small)
    return AutoModelForImageClassification.from_config(config)


@pytest.mark.parametrize(
    ("method", "setting", "numbers"),
    [
        ("lora", {"r": 2}, 2 * 2 * (24 + 72)),
        ("loca", {"n_frequency": 20}, 2 * 20),
        ("linear_probe", {}, 0),
        ("full", {}, None),
    ],
)
def test_timms_fused_projections_are_adapted(tmp_path, digits, method, setting, numbers):
    model, groups = adapted(method, timm_vit(), TIMM, **setting)
    sizes = {group.name: group.numbers for group in groups}
    assert sizes["head"] == 24 * 10 + 10
    assert numbers is None or sizes["adapter"] == numbers
    rows = DIGITS.prepare(digits.train, processor(), 0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(job(tmp_path, model, groups, rows, max_steps=2, batch_size=8))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert any("head" in name for name in moved)
    assert any("qkv" in name for name in moved) == (method != "linear_probe")


def test_dinov2_takes_images_of_another_size(digits):
    from transformers import Dinov2Config, Dinov2ForImageClassification

    config = Dinov2Config(image_size=28, patch_size=14, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    config.num_labels = 10
    model = Dinov2ForImageClassification(config)
    task = DIGITS.configured({"image_size": 56})
    rows = task.prepare(digits.reported.select(range(4)), processor(28), 0)
    assert isinstance(rows, ImageRows)
    assert rows[0]["pixel_values"].shape == (3, 56, 56)
    assert Predictor(model, None, task.collate(None), 4, CPU).logits(rows).shape == (4, 10)


def write_vtab(root, task, sizes):
    folder = root / task.data.folder
    (folder / "images").mkdir(parents=True)
    number = 0
    for split, size in sizes.items():
        lines = []
        for label in range(size):
            (folder / "images" / f"{number}.png").write_bytes(encoded(picture(seed=number)))
            lines.append(f"images/{number}.png {label % len(task.labels)}\n")
            number += 1
        (folder / f"{split}.txt").write_text("".join(lines))


def test_vtab_trains_on_800_or_on_1000_and_never_cuts_anew(tmp_path):
    sizes = {"train800": 8, "val200": 2, "train800val200": 10, "test": 5}
    write_vtab(tmp_path, vtab.CIFAR100, sizes)
    assert (tmp_path / "vtab-1k" / "cifar" / "train800.txt").is_file()
    found = {
        train: vtab.CIFAR100.configured({"train": train}).splits(FolderSource(tmp_path)) for train in ("800", "1000")
    }
    assert found["800"].sizes == {"train": 8, "selection": 2, "reported": 5}
    assert found["1000"].sizes == {"train": 10, "selection": 2, "reported": 5}
    assert found["800"].train["example"][0] == "train800:0"
    assert found["1000"].train["example"][0] == "train800val200:0"
    assert vtab.CIFAR100.configured({"image_size": 32}).data == vtab.CIFAR100.data
    with pytest.raises(UserError, match="the options of vtab/cifar100"):
        vtab.CIFAR100.configured({"train": "900"})


def test_vtab_resizes_the_whole_image():
    assert all(task.options.fit == "squash" for task in ALL if task.name.startswith("vtab/"))


def test_both_vtab_averages():
    assert {group: len(names) for group, names in vtab.GROUPS.items()} == {
        "natural": 7,
        "specialized": 4,
        "structured": 8,
    }
    scores = {name: {"natural": 0.8, "specialized": 0.9, "structured": 0.6}[group]
              for group, names in vtab.GROUPS.items() for name in names}  # fmt: skip
    found = vtab.vtab_averages({f"vtab/{name}": score for name, score in scores.items()})
    assert found == vtab.vtab_averages(scores)
    assert found.over_tasks == pytest.approx((7 * 0.8 + 4 * 0.9 + 8 * 0.6) / 19)
    assert found.over_groups == pytest.approx((0.8 + 0.9 + 0.6) / 3)
    assert (found.natural, found.specialized, found.structured) == pytest.approx((0.8, 0.9, 0.6))


def test_an_average_over_fewer_tasks_is_none():
    scores = dict.fromkeys(vtab.NAMES, 0.5)
    with pytest.raises(UserError, match="vision/cifar10 is not a task of VTAB-1k"):
        vtab.vtab_averages({**scores, "vision/cifar10": 0.5})
    del scores["svhn"]
    with pytest.raises(UserError, match="svhn is missing"):
        vtab.vtab_averages(scores)
