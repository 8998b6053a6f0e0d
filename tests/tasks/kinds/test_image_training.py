"""Training on images: learning, resuming within an epoch, augmentation, and timm's and DINOv2's models."""

from collections import Counter

import pytest
import torch
from sklearn import metrics

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job, train
from parbench.methods import METHODS
from parbench.methods.architecture import ModuleNames, module_names
from parbench.tasks.data.image_rows import AugmentedRows, ImageRows
from parbench.tasks.inference import Predictor
from parbench.tasks.vision import DIGITS, DIGITS_FEW
from tests.support.image_models import processor, vit

CPU = torch.device("cpu")


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


def test_few_digits_leave_more_to_report_on(digits):
    few = DIGITS_FEW.splits(DIGITS_FEW.own_source)
    assert few.sizes == {"train": 100, "selection": 250, "reported": 1447}
    assert set(Counter(few.train["label"][:]).values()) == {10}
    seen = [Counter(image["bytes"] for image in part.with_format(None)["image"]) for part in few.by_name.values()]
    whole = [Counter(image["bytes"] for image in part["image"]) for part in digits.by_name.values()]
    assert sum(seen, Counter()) == sum(whole, Counter())


@pytest.mark.parametrize(
    ("method", "setting", "chance"),
    [
        ("full", {"learning_rate": 3e-3, "head_learning_rate": 3e-3}, 0.5),
        pytest.param("linear_probe", {"head_learning_rate": 3e-1}, 0.2, marks=pytest.mark.slow),
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


@pytest.mark.parametrize(
    ("method", "accumulation"),
    [
        ("lora", 1),
        pytest.param("lora", 2, marks=pytest.mark.slow),
        pytest.param("full", 1, marks=pytest.mark.slow),
        ("full", 2),
    ],
)
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


def test_augmentation_depends_on_epoch_only(tmp_path, digits):
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
