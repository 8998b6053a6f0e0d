"""Tiny models of clips with random weights: four frames of 8 x 8 pixels."""

import torch
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    TimesformerConfig,
    TimesformerForVideoClassification,
    TimesformerVideoProcessor,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEVideoProcessor,
    VivitConfig,
    VivitForVideoClassification,
    VivitVideoProcessor,
)

from parbench.bench.models.video_swin import VideoSwinConfig, VideoSwinForVideoClassification

FRAMES, SIDE = 4, 8
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
# Five times the usual value, at which the attention of so narrow a model is nearly uniform, and it learns nothing.
STD = {"initializer_range": 0.1}
CLIPS = {"num_frames": FRAMES, "image_size": SIDE}
SWIN = {"patch_size": (2, 2, 2), "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "window_size": (2, 2, 2)}


def videomae(labels=3):
    return VideoMAEForVideoClassification(VideoMAEConfig(**SIZES, **STD, **CLIPS, patch_size=4, num_labels=labels))


def timesformer(labels=3):
    return TimesformerForVideoClassification(
        TimesformerConfig(**SIZES, **STD, **CLIPS, patch_size=4, num_labels=labels)
    )


def vivit(labels=3):
    return VivitForVideoClassification(VivitConfig(**SIZES, **STD, **CLIPS, tubelet_size=[2, 4, 4], num_labels=labels))


def video_swin(labels=3):
    return VideoSwinForVideoClassification(VideoSwinConfig(**SWIN, **CLIPS, num_labels=labels))


def dinov2(labels=3):
    config = Dinov2Config(image_size=SIDE, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    config.num_labels = labels
    return Dinov2ForImageClassification(config)


MODELS = {make.__name__: make for make in (videomae, timesformer, vivit, video_swin)}
CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
PROCESSORS = {
    "videomae": VideoMAEVideoProcessor,
    "timesformer": TimesformerVideoProcessor,
    "vivit": VivitVideoProcessor,
    "video_swin": VideoMAEVideoProcessor,
}


def saved(folder, name, labels=3, seed=0):
    """Save one of `MODELS` with its processor; return the folder."""
    torch.manual_seed(seed)
    MODELS[name](labels).save_pretrained(folder)
    PROCESSORS[name](**CROPPED).save_pretrained(folder)
    return folder


def pixels(batch=2, frames=FRAMES, side=SIDE, seed=0):
    """Return random clips, float32 of shape (batch, frames, 3, side, side)."""
    return torch.randn((batch, frames, 3, side, side), generator=torch.Generator().manual_seed(seed))
