"""Synthetic batches that cost as much as real ones: word frequencies as in text, pixels in the normalised range.

They depend on the workload only and are drawn with numpy, so that every process gets the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parbench.bench.profile.workload import ModelUse, Workload
from parbench.bench.util.errors import UserError
from parbench.tasks.inference import IGNORED
from parbench.tasks.kinds.system_prompt import IDS, MASK

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]

# Tokens that a decoder of its own writes: as many as VL-Adapter's are trained and generate at most.
WRITTEN = 20
# Pixels of an image of VL-BART.
IMAGE_SIDE = 224
# Mandelbrot's law of word frequencies, p(rank) ~ 1 / (rank + 2.7), with the usual constants.
_MANDELBROT_SHIFT = 2.7


def make_batches(config: Any, kind: ModelUse, workload: Workload, count: int) -> list[Batch]:
    """Return ``count`` batches on the CPU, with ``labels``.

    Texts are ``input_ids`` and ``attention_mask`` of shape (batch, length); images are ``pixel_values`` of shape
    (batch, channels, side, side), of videos (batch, frames, channels, side, side), uniform in [-1, 1]. Labels are class
    ids of shape (batch,), or for a language model the token ids, without padding. A model that sees images, or is given
    features of videos, gets one with each text. A model with an encoder and a decoder reads texts of ``length`` tokens,
    and its labels are `WRITTEN` tokens, before which ``decoder_input_ids`` has what it has written.

    Raises:
        UserError: it is not known how many tokens the model makes of an image, or they are more than ``length``.
    """
    draw = np.random.default_rng(workload.seed)
    makers = {"image": _images, "video": _images, "text": _texts, "image_text": _images_with_texts}
    make = _written if _has_decoder(config) else makers[kind.modality]
    return [make(config, kind, workload, draw) for _ in range(count)]


def make_prompts(config: Any, kind: ModelUse, workload: Workload, length: int) -> Batch:
    """Return a batch of prompts to generate from: ``length`` tokens, an image's among them where the model sees one."""
    import torch

    draw = np.random.default_rng(workload.seed)
    ids = torch.from_numpy(token_ids(config.get_text_config(), (workload.batch_size, length), draw))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if _has_decoder(config):
        return {**batch, **_seen(config, workload, draw)}
    return _with_images(batch, config, workload, draw) if kind.modality == "image_text" else batch


def system_prompts(config: Any, workload: Workload, count: int) -> np.ndarray:
    """Return system prompts of the workload's length as ids of shape (count, tokens), drawn by `token_ids`.

    Args:
        config: of the model that reads them.
    """
    # A separate random stream, so that the batches are the same for methods that read no system prompts.
    draw = np.random.default_rng([workload.seed, 1])
    return token_ids(config.get_text_config(), (count, workload.system_prompt_tokens), draw)


def with_system_prompts(batches: Sequence[Batch], config: Any, workload: Workload) -> list[Batch]:
    """Return training batches with a separate system prompt for each example.

    Args:
        config: of the model that reads them.
    """
    import torch

    size = len(batches[0]["labels"])
    drawn = torch.from_numpy(system_prompts(config, workload, len(batches) * size)).split(size)
    return [{**batch, IDS: ids, MASK: torch.ones_like(ids)} for batch, ids in zip(batches, drawn, strict=True)]


def token_ids(config: Any, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Return token ids with the word frequencies of text (Zipf-Mandelbrot), without special tokens."""
    special = {getattr(config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    ids = np.setdiff1d(np.arange(config.vocab_size), [number for number in special if isinstance(number, int)])
    ids = draw.permutation(ids)
    weights = 1.0 / (np.arange(len(ids)) + _MANDELBROT_SHIFT)
    return draw.choice(ids, size=shape, p=weights / weights.sum())


def checksum(batches: Sequence[Batch]) -> str:
    """Return a checksum of the batches, 16 hexadecimal digits."""
    total = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            total.update(name.encode() + batch[name].numpy().tobytes())
    return total.hexdigest()[:16]


def on_device(batches: Sequence[Batch], device: torch.device) -> list[Batch]:
    """Return the batches on ``device``."""
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]


def _texts(config: Any, kind: ModelUse, workload: Workload, draw: np.random.Generator) -> Batch:
    import torch

    shape = (workload.batch_size, workload.length)
    ids = token_ids(config.get_text_config(), shape, draw)
    # Lengths from 1 - 2 * padding to 1 of the full length, so that the mean share of padding is as asked.
    least = max(1, round((1 - 2 * workload.padding) * workload.length))
    lengths = draw.integers(least, workload.length, size=shape[0], endpoint=True)
    mask = np.arange(shape[1]) < lengths[:, None]
    # Padding can be any id, since the mask hides it; only RoBERTa derives positions from it.
    ids = np.where(mask, ids, getattr(config, "pad_token_id", None) or 0)
    labels = np.where(mask, ids, IGNORED) if kind.generates else _labels(config, workload, draw)
    arrays = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "labels": labels}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _has_decoder(config: Any) -> bool:
    """Return whether a model writes in a decoder of its own; not every configuration tells."""
    return bool(getattr(config, "is_encoder_decoder", False))


def _written(config: Any, kind: ModelUse, workload: Workload, draw: np.random.Generator) -> Batch:
    """Return a batch for a model with an encoder and a decoder."""
    import torch

    read = _texts(config, kind, workload, draw)
    words = torch.from_numpy(token_ids(config.get_text_config(), (workload.batch_size, WRITTEN), draw))
    return {**read, **_seen(config, workload, draw), "decoder_input_ids": words, "labels": words}


def _seen(config: Any, workload: Workload, draw: np.random.Generator) -> Batch:
    """Return what VL-BART is given beside each text: an image, or the features of a video."""
    import torch

    if config.model_type == "vl_bart_video":
        shape: tuple[int, ...] = (workload.batch_size, 1, config.boxes, config.feature_size)
        return {"features": torch.from_numpy(draw.standard_normal(shape).astype(np.float32))}
    shape = (workload.batch_size, 1, 3, IMAGE_SIDE, IMAGE_SIDE)
    return {"pixel_values": torch.from_numpy(draw.uniform(-1.0, 1.0, size=shape).astype(np.float32))}


def _images_with_texts(config: Any, kind: ModelUse, workload: Workload, draw: np.random.Generator) -> Batch:
    return _with_images(_texts(config, kind, workload, draw), config, workload, draw)


def _with_images(batch: Batch, config: Any, workload: Workload, draw: np.random.Generator) -> Batch:
    """Return texts whose first tokens are replaced by those of an image each, which nothing is asked of."""
    import torch

    count = getattr(config, "image_seq_length", None)
    vision = config.vision_config
    if count is None or not hasattr(vision, "patch_size"):
        raise UserError(
            f"how many tokens a {config.model_type} makes of an image is not in its configuration; models in LLaVA's "
            "shape can be measured"
        )
    shortest = int(batch["attention_mask"].sum(dim=1).min())
    if count >= shortest:
        raise UserError(
            f"an image is {count} tokens of this model, and a text of the batch has {shortest} with them; use --seq "
            f"{2 * count} or more"
        )
    side = round(count**0.5) * vision.patch_size
    shape = (workload.batch_size, vision.num_channels, side, side)
    pixels = torch.from_numpy(draw.uniform(-1.0, 1.0, size=shape).astype(np.float32))
    batch["input_ids"][:, :count] = config.image_token_id
    if "labels" in batch:
        batch["labels"][:, :count] = IGNORED
    return {**batch, "pixel_values": pixels}


def _images(config: Any, kind: ModelUse, workload: Workload, draw: np.random.Generator) -> Batch:
    import torch

    side, channels = config.image_size, config.num_channels
    sides = (side, side) if isinstance(side, int) else tuple(side)
    frames = (config.num_frames,) if kind.modality == "video" else ()
    pixels = draw.uniform(-1.0, 1.0, size=(workload.batch_size, *frames, channels, *sides)).astype(np.float32)
    return {"pixel_values": torch.from_numpy(pixels), "labels": torch.from_numpy(_labels(config, workload, draw))}


def _labels(config: Any, workload: Workload, draw: np.random.Generator) -> np.ndarray:
    return draw.integers(0, config.num_labels, size=workload.batch_size)
