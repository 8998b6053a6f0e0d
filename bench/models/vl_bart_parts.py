"""Puts VL-BART together from its parts: BART, and an image model of timm's; for videos, BART alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from timm.data import resolve_model_data_config
from transformers import (
    AutoTokenizer,
    BartForConditionalGeneration,
    BitImageProcessorPil,
    PreTrainedModel,
    TimmWrapperModel,
)

from parbench.bench.models.vl_bart import VlBartConfig, VlBartForConditionalGeneration, VlBartProcessor
from parbench.bench.models.vl_bart_video import (
    VlBartVideoConfig,
    VlBartVideoForConditionalGeneration,
    VlBartVideoProcessor,
)
from parbench.bench.models.weights import Weights
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock

BART, IMAGE_MODEL = "facebook/bart-base", "timm/resnet101_clip.openai"


@dataclass(frozen=True)
class PartsToJoin(Weights):
    """No repository holds the whole model, and of its parts no commit could be verified.

    Attributes:
        model: its name.
        call: what puts it together, of this module.
    """

    model: str
    call: str

    def revision(self, lock: RevisionLock) -> str:
        """Raise: it must be put together first.

        Raises:
            UserError: always.
        """
        return self.location()

    def location(self) -> str:
        """Raise: it must be put together first.

        Raises:
            UserError: always.
        """
        raise UserError(
            f'the base model "{self.model}" is in no one place; put it together once, in Python: '
            f"parbench.bench.models.vl_bart_parts.{self.call}, and give --model my-{self.model} (or measure it with "
            "--random-weights)"
        )


def join(bart: str, image_model: str, folder: str | Path, boxes: int = 36, **revisions: Any) -> Path:
    """Write VL-BART with its processor into ``folder``; its visual embedding is not written, each run draws its own.

    Args:
        bart: a BART, by its repository on the hub or its folder.
        image_model: an image model of timm's, likewise.
        folder: where to write.
        boxes: places that the image model's grid is pooled to.
        revisions: ``bart_revision`` and ``image_revision``, the commits to take.
    """
    language = BartForConditionalGeneration.from_pretrained(bart, revision=revisions.get("bart_revision", "main"))
    at = {"revision": revisions.get("image_revision", "main")}
    vision = TimmWrapperModel.from_pretrained(image_model, **at)
    vision.config.do_pooling = False
    config = VlBartConfig(
        vision_config=vision.config,
        text_config=language.config,
        feature_size=cast(Any, vision.timm_model).num_features,
        boxes=boxes,
    )
    model = VlBartForConditionalGeneration(config)
    model.vision_tower.load_state_dict(vision.state_dict())
    model.language_model.load_state_dict(language.state_dict())
    _write(model, folder)
    own = resolve_model_data_config(vision.timm_model)
    _, height, width = own["input_size"]
    # As a whole, not cropped.
    images = BitImageProcessorPil(
        size={"height": height, "width": width},
        do_center_crop=False,
        image_mean=list(own["mean"]),
        image_std=list(own["std"]),
    )
    tokenizer = AutoTokenizer.from_pretrained(bart, revision=revisions.get("bart_revision", "main"))
    VlBartProcessor(images, tokenizer, cast(int, language.config.decoder_start_token_id)).save_pretrained(folder)
    return Path(folder)


def join_for_videos(
    bart: str, folder: str | Path, feature_size: int = 512, boxes: int = 64, revision: str = "main"
) -> Path:
    """Write VL-BART for given features of videos into ``folder``; each run draws its own visual embedding.

    Args:
        bart: a BART, by its repository on the hub or its folder.
        folder: where to write.
        feature_size: numbers of a segment's feature; 512 of CLIP ViT-B/32.
        boxes: features that a video's are pooled or filled up to.
        revision: BART's commit.
    """
    language = BartForConditionalGeneration.from_pretrained(bart, revision=revision)
    model = VlBartVideoForConditionalGeneration(
        VlBartVideoConfig(text_config=language.config, feature_size=feature_size, boxes=boxes)
    )
    model.language_model.load_state_dict(language.state_dict())
    _write(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(bart, revision=revision)
    start = cast(int, language.config.decoder_start_token_id)
    VlBartVideoProcessor(tokenizer, feature_size, boxes, start).save_pretrained(folder)
    return Path(folder)


def _write(model: PreTrainedModel, folder: str | Path) -> None:
    """Write a model without its visual embedding."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("visual_embedding.")}
    model.save_pretrained(folder, state_dict=state)
