"""What a model's own configuration decides: what it can be used for, and how long and how large its inputs may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import transformers
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

import parbench.bench.models.video_swin  # noqa: F401 - makes the architecture known to the auto classes
from parbench.tasks.base import Head

CLASSIFIER, CAUSAL = "AutoModelForSequenceClassification", "AutoModelForCausalLM"
IMAGES, IMAGE_TEXT = "AutoModelForImageClassification", "AutoModelForImageTextToText"
VIDEOS, FEATURES_TEXT = "AutoModelForVideoClassification", "AutoModelForSeq2SeqLM"

# Architectures whose first positions belong to the padding token: their table is longer than what they can read.
_POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "mpnet"}

# Vision towers that interpolate their positions, so that images may have any size.
OF_ANY_SIZE = {"dinov2"}

# Architectures that read images of the size of their configuration only; others interpolate their positions.
_FIXED_IMAGE_SIZE = {"vit", "videomae", "vivit"}
# Likewise for the number of frames.
_FIXED_FRAMES = {"videomae", "vivit"}

# Architectures that write text about given features of a video.
_GIVEN_FEATURES = {"vl_bart_video"}


def own_auto_class(config: PreTrainedConfig) -> str:
    """Return the auto class of a model's own head.

    That is the head that it was saved with. A bare backbone gets the one that its architecture is made for.
    """
    saved_as = set(config.architectures or ())
    # First: some of these also count as causal language models, and would then never see an image.
    if sees_images(config):
        return IMAGE_TEXT
    if config.model_type in _GIVEN_FEATURES:
        return FEATURES_TEXT
    for auto_class, names in (
        (CAUSAL, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        (IMAGES, modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES),
        (CLASSIFIER, modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    ):
        if saved_as & _flat(names.values()):
            return auto_class
    if type(config) in transformers.AutoModelForVideoClassification._model_mapping:
        return VIDEOS
    if type(config) in transformers.AutoModelForImageClassification._model_mapping:
        return IMAGES
    return CAUSAL if _continues_text(config) else CLASSIFIER


def sees_images(config: PreTrainedConfig) -> bool:
    """Return whether a model writes text about images: transformers lists some of text alone with those that do."""
    listed = type(config) in transformers.AutoModelForImageTextToText._model_mapping
    return listed and getattr(config, "vision_config", None) is not None


def auto_class_for(config: PreTrainedConfig, head: Head) -> str:
    """Return the auto class by which a model gets a head: a model of images also reads clips, see `frames`."""
    videos = transformers.AutoModelForVideoClassification._model_mapping
    return IMAGES if head.auto_class == VIDEOS and type(config) not in videos else head.auto_class


def takes(config: PreTrainedConfig, head: Head) -> bool:
    """Return whether a model of a configuration can have a head."""
    if type(config) not in getattr(transformers, auto_class_for(config, head))._model_mapping:
        return False
    if head.auto_class == IMAGE_TEXT:
        return sees_images(config)
    if head.auto_class == FEATURES_TEXT:
        return config.model_type in _GIVEN_FEATURES
    return head.is_new or _continues_text(config)


def positions(config: PreTrainedConfig) -> int | None:
    """Return the number of tokens that a model takes at most, or ``None`` where its configuration has no limit."""
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    if most is None:
        return None
    return int(most) - (text.pad_token_id + 1 if text.model_type in _POSITIONS_AFTER_PADDING else 0)


def fixed_image_size(config: PreTrainedConfig) -> tuple[int, int] | None:
    """Return the only (height, width) that a model takes, or ``None`` where it takes several."""
    if config.model_type not in _FIXED_IMAGE_SIZE:
        return None
    size: Any = getattr(config, "image_size")  # noqa: B009 - not every configuration has it
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def own_frames(config: PreTrainedConfig) -> int | None:
    """Return the number of frames that a model of videos was made for, or ``None`` of a model of anything else."""
    if type(config) not in transformers.AutoModelForVideoClassification._model_mapping:
        return None
    return int(getattr(config, "num_frames"))  # noqa: B009 - not every configuration has it


def frames_are_fixed(config: PreTrainedConfig) -> bool:
    """Return whether a model of videos takes no other number of frames."""
    return config.model_type in _FIXED_FRAMES


def _continues_text(config: PreTrainedConfig) -> bool:
    """Return whether a model was made to continue a text.

    transformers also makes language models of encoders, which were never trained to.
    """
    return (
        type(config) in transformers.AutoModelForCausalLM._model_mapping
        and type(config) not in transformers.AutoModelForMaskedLM._model_mapping
    )


def _flat(names: Iterable[str | Iterable[str]]) -> set[str]:
    """Return class names; a mapping may have several for one architecture (one with a teacher's head, say)."""
    return {name for entry in names for name in ((entry,) if isinstance(entry, str) else entry)}
