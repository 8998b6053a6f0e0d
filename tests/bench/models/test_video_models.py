"""Models of clips: transformers', torchvision's Video Swin, and models of images that see frame by frame."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.video.swin_transformer import SwinTransformer3d

from parbench.bench.models import catalogue
from parbench.bench.models import torchvision_weights as weights
from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.catalogue import find_model
from parbench.bench.models.configs import Shape
from parbench.bench.models.frames import read_clips
from parbench.bench.models.torchvision_weights import VideoSwinWeights
from parbench.bench.models.video_swin import VideoSwinConfig
from parbench.bench.plan.model_checks import check_model
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.tasks.base import Head, Modality
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.video import MOVING_DIGITS
from tests.support.image_models import processor
from tests.support.video_models import FRAMES, MODELS, SIDE, SWIN, dinov2, pixels, saved, video_swin

HEAD = Head("AutoModelForVideoClassification", ("a", "b", "c", "d", "e"))


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_gets_the_head_of_a_task(tmp_path, name):
    model = find_model(str(saved(tmp_path / name, name, labels=3)))
    model.check("any", HEAD)
    skeleton, loaded = model.skeleton(HEAD, "cpu"), model.load(HEAD, "any")
    assert type(loaded) is type(skeleton)
    own = MODELS[name](3)
    names = module_names(loaded)
    saved_tensors = find_model(str(tmp_path / name)).weights.shapes("any")
    assert sum(names.in_head(key) for key in saved_tensors) == 2
    assert loaded.eval()(pixel_values=pixels()).logits.shape == (2, 5)
    assert sum(p.numel() for p in loaded.parameters()) - sum(p.numel() for p in own.parameters()) == 2 * (
        own.config.hidden_size + 1
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_processor_makes_what_the_models_own_makes(tmp_path, name):
    """The same pixels as transformers' video processor, but for the rounding of the resizing."""
    model = find_model(str(saved(tmp_path / name, name)))
    found = model.processor(Modality.VIDEO, "any")
    assert found.frames == FRAMES
    assert found.fixed == (name in ("videomae", "vivit"))
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = found.image([frame[None]], return_tensors="pt")["pixel_values"][0, 0]
    ours = Preprocessing.of(found.image).evaluation()(Image.fromarray(frame))
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["videomae", "vivit"])
def test_a_number_of_frames_that_a_model_does_not_take_is_refused(tmp_path, name):
    model = find_model(str(saved(tmp_path / name, name)))
    assert check_model(model, "any", MOVING_DIGITS) is None
    with pytest.raises(UserError, match=f"frames is 6, and {name} takes 4 frames only"):
        check_model(model, "any", MOVING_DIGITS.configured({"frames": 6}))


def torchvisions(labels, **changes):
    sizes = {name: list(size) if isinstance(size, tuple) else size for name, size in {**SWIN, **changes}.items()}
    return SwinTransformer3d(**sizes, num_classes=labels)


def test_video_swin_is_torchvisions():
    torch.manual_seed(0)
    ours = video_swin().eval()
    theirs = SwinTransformer3d(
        **{name: list(v) if isinstance(v, tuple) else v for name, v in SWIN.items()}, num_classes=3
    )
    theirs.load_state_dict(ours.swin.state_dict())
    for size in ((2, 4, 8), (1, 5, 11), (2, 2, 4)):
        clips = pixels(*size)
        assert torch.equal(ours(pixel_values=clips).logits, theirs.eval()(clips.transpose(1, 2)))


def test_the_sizes_of_video_swin_are_torchvisions():
    from torchvision.models import video

    for size, numbers in (("t", 28_158_070), ("s", 49_816_678), ("b", 88_048_984)):
        shape = getattr(catalogue, f"SWIN3D_{size.upper()}").shape
        with torch.device("meta"):
            expected = getattr(video, f"swin3d_{size}")().state_dict()
            config = shape.config(num_labels=400)
        model = BaseModel("it", None, shape).skeleton(Head(HEAD.auto_class, tuple(map(str, range(400)))))
        assert {name: tensor.shape for name, tensor in model.swin.state_dict().items()} == {
            name: tensor.shape for name, tensor in expected.items()
        }
        assert sum(p.numel() for p in model.parameters()) == numbers
        assert config.num_hidden_layers == sum(config.depths)


@pytest.mark.parametrize("method", ["lora", "loca"])
def test_adapters_of_video_swin_take_part(method):
    """torchvision multiplies by the weights of its projections, so that an adapter in their place would be left out."""
    torch.manual_seed(0)
    base = video_swin()
    found = find_method(method).method
    size = {"n_frequency": 20} if method == "loca" else {"r": 2}
    setting = found.setting_type(target_modules=("attn.qkv", "attn.proj"), **size)
    adapted = found.adapt(base, module_names(base), setting)
    adapted(pixel_values=pixels()).logits.sum().backward()
    trained = [p for name, p in adapted.named_parameters() if p.requires_grad and "head" not in name]
    assert trained
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)


def checkpoint(folder, **changes):
    """Write a checkpoint as torchvision's are: named after the beginning of its hash."""
    torch.manual_seed(1)
    sizes = {**SWIN, **changes}
    model = SwinTransformer3d(
        **{name: list(v) if isinstance(v, tuple) else v for name, v in sizes.items()}, num_classes=7
    )
    folder.mkdir(exist_ok=True)
    torch.save(model.state_dict(), folder / "any.pth")
    digest = hashlib.sha256((folder / "any.pth").read_bytes()).hexdigest()
    return (folder / "any.pth").rename(folder / f"swin3d_x-{digest[:8]}.pth"), model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SHAPE = Shape(VideoSwinConfig.model_type, HEAD.auto_class, SWIN)


def test_torchvisions_weights_are_converted_once(tmp_path, cache):
    path, theirs = checkpoint(tmp_path)
    model = BaseModel("swin", VideoSwinWeights(path.as_uri(), SHAPE, 7), SHAPE)
    assert model.weights.revision(None) == path.name
    head = Head(HEAD.auto_class, tuple("abcdefg"))
    loaded = model.load(head, path.name)
    path.unlink()  # not needed any more
    again = model.load(HEAD, path.name)
    clips = pixels()
    theirs.head, loaded.swin.head, again.swin.head = (torch.nn.Identity() for _ in range(3))
    expected = theirs.eval()(clips.transpose(1, 2))
    assert torch.equal(loaded.eval()(pixel_values=clips).logits, expected)
    assert torch.equal(again.eval()(pixel_values=clips).logits, expected)
    image = model.processor(Modality.VIDEO, path.name).image
    assert Preprocessing.of(image) == Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), *BILINEAR)


BILINEAR = ("bilinear", pytest.approx(224 / 256, abs=0.002))


@pytest.mark.parametrize("fault", ["another file", "another network", "no file"])
def test_weights_that_are_not_the_expected_ones_are_refused(tmp_path, cache, fault):
    path, _ = checkpoint(tmp_path, **({"depths": (2, 1)} if fault == "another network" else {}))
    if fault == "another file":
        path.write_bytes(path.read_bytes() + b" ")
    if fault == "no file":
        path.unlink()
    reasons = {"another file": "refusing", "another network": "expected weights", "no file": "cannot be downloaded"}
    with pytest.raises(UserError, match=reasons[fault]) as caught:
        VideoSwinWeights(path.as_uri(), SHAPE, 7).location()
    assert "\n" not in str(caught.value)
    assert not list((cache / "converted").iterdir())


def test_the_published_files_are_those_that_torchvision_names():
    from torchvision.models.video import Swin3D_B_Weights, Swin3D_S_Weights, Swin3D_T_Weights

    published = {"t": Swin3D_T_Weights, "s": Swin3D_S_Weights, "b": Swin3D_B_Weights}
    for size, found in published.items():
        ours = getattr(catalogue, f"SWIN3D_{size.upper()}").weights
        assert ours.url == found.KINETICS400_V1.value.url
        preset = found.KINETICS400_V1.value.transforms.keywords
        assert list(preset["mean"]) == weights._MEAN
        assert list(preset["std"]) == weights._STD


def test_a_model_of_images_sees_frame_by_frame(tmp_path):
    torch.manual_seed(0)
    dinov2(3).save_pretrained(tmp_path / "dinov2")
    processor(SIDE).save_pretrained(tmp_path / "dinov2")
    model = find_model(str(tmp_path / "dinov2"))
    model.check("any", HEAD)
    torch.manual_seed(0)
    loaded = model.load(HEAD, "any").eval()
    torch.manual_seed(0)
    of_images = model.load(Head("AutoModelForImageClassification", HEAD.labels), "any").eval()
    clips = pixels(batch=3, frames=5)
    frames = torch.stack([of_images(pixel_values=clips[:, frame]).logits for frame in range(5)])
    assert torch.allclose(loaded(pixel_values=clips).logits, frames.mean(dim=0), atol=1e-6)
    assert torch.allclose(loaded(pixel_values=clips[:, 0]).logits, frames[0], atol=1e-6)
    assert torch.allclose(loaded(pixel_values=clips.flip(1)).logits, frames.mean(dim=0), atol=1e-6)
    found = model.processor(Modality.VIDEO, "any")
    assert (found.frames, found.fixed) == (None, False)


@pytest.mark.parametrize("method", ["lora", "loca", "full", "linear_probe"])
def test_a_model_of_frames_is_adapted_and_saved_as_one_of_images(tmp_path, method):
    torch.manual_seed(0)
    base = read_clips(dinov2())
    found = find_method(method).method
    names = module_names(base)
    adapted = found.adapt(base, names, found.setting_type())
    adapted(pixel_values=pixels()).logits.sum().backward()
    groups = found.parameter_groups(adapted, names, found.setting_type())
    assert all(p.grad is not None for group in groups if group.is_head for p in group.parameters)
    read_clips(dinov2()).save_pretrained(tmp_path / "model")
    assert find_model(str(tmp_path / "model")).auto_class == "AutoModelForImageClassification"


def test_a_model_of_text_takes_no_clips():
    with pytest.raises(UserError, match="a model of videos or images"):
        find_model("minilm-l6").check("any", HEAD)
