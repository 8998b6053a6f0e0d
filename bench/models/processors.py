"""Tokenizers, image processors and processors of both, made consistent with their model's configuration."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, AutoVideoProcessor

from parbench.bench.models.kind import fixed_image_size, frames_are_fixed, own_frames, positions
from parbench.bench.models.weights import Weights
from parbench.bench.util.errors import UserError
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.video.clip_processor import ClipProcessor

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

# Of a model of videos whose files were saved since transformers 5; older ones have an image processor.
_VIDEO_PROCESSOR = "video_preprocessor_config.json"


def load_tokenizer(name: str, weights: Weights, revision: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """Return a tokenizer that pads on the right and whose ``model_max_length`` is what the model takes.

    Padding on the right changes the positions of no token, so that a text's logits do not depend on its batch. A
    tokenizer without a padding token that the model has an embedding for pads with its end of text, which the attention
    mask hides.

    Raises:
        UserError: there is none, or it has neither of these tokens.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(weights.location(), revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(_lacking(name, "tokenizer", weights, error)) from error
    vocabulary_files = {"tokenizer.json", *type(tokenizer).vocab_files_names.values()}
    # transformers makes up a tokenizer of a few special tokens where there is no vocabulary; one of bytes has none.
    if type(tokenizer).vocab_files_names and not any(weights.has(file, revision) for file in vocabulary_files):
        absent = FileNotFoundError(f"none of {', '.join(sorted(vocabulary_files))} is there")
        raise UserError(_lacking(name, "tokenizer", weights, absent))
    return _fitted(tokenizer, name, config)


def _fitted(tokenizer: PreTrainedTokenizerBase, name: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """Return a tokenizer that pads on the right and takes no more than the model; see `load_tokenizer`."""
    size = config.get_text_config().vocab_size
    if most := _tokens_beyond(tokenizer, size):
        raise UserError(
            f'the tokenizer of "{name}" makes tokens up to number {most}, and the model has embeddings for {size} '
            "only; give the tokenizer that it was trained with, or resize its embeddings and save it again"
        )
    usable = (token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None and token < size)
    padding = next(usable, None)
    if padding is None:
        raise UserError(
            f'the tokenizer of "{name}" has neither a padding nor an end-of-text token among the {size} tokens of the '
            "model; set its pad_token and save it again"
        )
    if padding != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    tokenizer.padding_side = "right"
    most = positions(config)
    if most is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return tokenizer


def _tokens_beyond(tokenizer: PreTrainedTokenizerBase, size: int) -> int | None:
    """Return the largest token that texts are made of, where a model has no embedding for it.

    A special token that no text is given, such as padding that was added later, may be beyond. Most models have more
    embeddings than tokens.
    """
    beyond = {token for token in tokenizer.get_vocab().values() if token >= size}
    special = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    given = {*tokenizer("")["input_ids"], tokenizer.unk_token_id}
    return max(beyond - (special - given), default=None)


def load_image_processor(name: str, weights: Weights, revision: str, config: PreTrainedConfig) -> BaseImageProcessor:
    """Return an image processor; of a model that takes images of one size only, it makes images of that size.

    Raises:
        UserError: there is none.
    """
    return cast("BaseImageProcessor", _image_sized(_loaded(AutoImageProcessor, name, weights, revision), name, config))


def load_clip_processor(name: str, weights: Weights, revision: str, config: PreTrainedConfig) -> ClipProcessor:
    """Return what prepares clips: the video processor of a model, or its image processor, and its number of frames.

    Raises:
        UserError: there is neither.
    """
    frames = own_frames(config)
    own = AutoVideoProcessor if frames and weights.has(_VIDEO_PROCESSOR, revision) else AutoImageProcessor
    image = _image_sized(_loaded(own, name, weights, revision), name, config)
    return ClipProcessor(image, frames, frames_are_fixed(config))


def _loaded(auto_class: Any, name: str, weights: Weights, revision: str) -> Any:
    try:
        return auto_class.from_pretrained(weights.location(), revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(_lacking(name, "image processor", weights, error)) from error


def _image_sized(processor: Any, name: str, config: PreTrainedConfig) -> Any:
    """Return a processor that makes images of a model's only size, where it has one."""
    size = fixed_image_size(config)
    if size is not None and Preprocessing.of(processor).size != size:
        warnings.warn(
            f'the image processor of "{name}" makes images of another size; they are resized to the {size[0]} x '
            f"{size[1]} pixels of the model",
            stacklevel=2,
        )
        processor.size = {"height": size[0], "width": size[1]}
        processor.do_center_crop = False
    return processor


def load_image_text_processor(name: str, weights: Weights, revision: str, config: PreTrainedConfig) -> ProcessorMixin:
    """Return a processor of images and text, whose tokenizer is as `load_tokenizer` returns it.

    Raises:
        UserError: there is none, or it marks the places of images in no text.
    """
    what = "processor of images and text"
    processor = _beside_text(name, what, weights, revision, config)
    if not hasattr(processor, "image_processor") or not getattr(processor, "image_token", None):
        found = TypeError(f"there is a {type(processor).__name__}, which has no token for an image")
        raise UserError(_lacking(name, what, weights, found))
    return cast("ProcessorMixin", processor)


def load_features_text_processor(
    name: str, weights: Weights, revision: str, config: PreTrainedConfig
) -> ProcessorMixin:
    """Return a processor of a video's features and text, whose tokenizer is as `load_tokenizer` returns it.

    Raises:
        UserError: there is none, or it takes no features.
    """
    what = "processor of features and text"
    processor = _beside_text(name, what, weights, revision, config)
    if not hasattr(processor, "feature_size"):
        found = TypeError(f"there is a {type(processor).__name__}, which takes no features")
        raise UserError(_lacking(name, what, weights, found))
    return cast("ProcessorMixin", processor)


def _beside_text(name: str, what: str, weights: Weights, revision: str, config: PreTrainedConfig) -> Any:
    """Return a model's own processor, with its tokenizer fitted."""
    try:
        processor: Any = AutoProcessor.from_pretrained(weights.location(), revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(_lacking(name, what, weights, error)) from error
    if hasattr(processor, "tokenizer"):
        processor.tokenizer = _fitted(processor.tokenizer, name, config)
    return processor


def _lacking(name: str, what: str, weights: Weights, error: Exception) -> str:
    reason = (str(error).splitlines() or [""])[0]
    if weights.on_hub:
        return f'the {what} of "{name}" cannot be loaded; connect to the network, or give another model ({reason})'
    return f'the base model "{name}" has no {what}; save the one that it was trained with beside its weights ({reason})'
