"""The base models: frozen backbones by name and pinned revision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.utils import logging

from parbench.bench.models.checkpoint import LoadReport, layers_for_head, match, redraw_head, unused_layers
from parbench.bench.models.configs import Shape
from parbench.bench.models.frames import read_clips
from parbench.bench.models.kind import auto_class_for, own_auto_class, takes
from parbench.bench.models.processors import (
    load_clip_processor,
    load_features_text_processor,
    load_image_processor,
    load_image_text_processor,
    load_tokenizer,
)
from parbench.bench.models.weights import Weights
from parbench.bench.util.base_precision import FLOAT32, BasePrecision
from parbench.bench.util.errors import UserError
from parbench.methods.architecture import MODULE_NAMES, adapted_kind, add_to_head, module_names, why_not_described
from parbench.methods.quantisation import convert_base
from parbench.tasks.base import Head, Modality
from parbench.tasks.data.video.clip_processor import ClipProcessor

if TYPE_CHECKING:
    from transformers import (
        BaseImageProcessor,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )


@dataclass(frozen=True)
class BaseModel:
    """A frozen backbone.

    Attributes:
        name: its name in tables.
        weights: where its files come from.
        shape: its architecture, where it is known without the files.
    """

    name: str
    weights: Weights
    shape: Shape | None = None

    @property
    def auto_class(self) -> str:
        """The auto class of the head that the model was saved with."""
        return self.shape.auto_class if self.shape else own_auto_class(self.config())

    def skeleton(self, head: Head | None = None, device: str = "meta") -> PreTrainedModel:
        """Return the architecture under ``head``, or the model's own; its weights are random, or empty on ``meta``.

        Raises:
            UserError: neither shape nor configuration is available, the checkpoint does not fit its configuration, or
                the model cannot have the head.
        """
        config = self.config(num_labels=head.num_labels if head else 2)
        if head:
            self._check_head(config, head)
        auto_class = getattr(transformers, auto_class_for(config, head) if head else self.auto_class)
        with torch.device(device):
            model: PreTrainedModel = auto_class.from_config(config)
        if head and auto_class.__name__ != head.auto_class:
            read_clips(model)
        if self.shape is None:
            add_to_head(model, self._layers_for_head(model))
        return model

    def config(self, revision: str | None = None, **changes: Any) -> PreTrainedConfig:
        """Return the architecture's configuration, from its shape or its files, with ``changes``."""
        if self.shape is not None:
            return self.shape.config(**changes)
        return self._own_config(self._any_commit if revision is None else self._commit(revision), **changes)

    def processor(self, modality: Modality, revision: str) -> Any:
        """Load what prepares the inputs: the tokenizer, a processor of images or clips, or one of either and text."""
        if modality == Modality.IMAGE_TEXT:
            return self.image_text_processor(revision)
        if modality == Modality.FEATURES_TEXT:
            return self.features_text_processor(revision)
        if modality == Modality.VIDEO:
            return self.clip_processor(revision)
        return self.tokenizer(revision) if modality == Modality.TEXT else self.image_processor(revision)

    def tokenizer(self, revision: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer, see `parbench.bench.models.processors.load_tokenizer`.

        Raises:
            UserError: there is none.
        """
        commit = self._commit(revision)
        return load_tokenizer(self.name, self.weights, commit, self._own_config(commit))

    def image_processor(self, revision: str) -> BaseImageProcessor:
        """Load the image processor, see `parbench.bench.models.processors.load_image_processor`.

        Raises:
            UserError: there is none.
        """
        commit = self._commit(revision)
        return load_image_processor(self.name, self.weights, commit, self._own_config(commit))

    def clip_processor(self, revision: str) -> ClipProcessor:
        """Load what prepares clips, see `parbench.bench.models.processors.load_clip_processor`.

        Raises:
            UserError: there is none.
        """
        commit = self._commit(revision)
        return load_clip_processor(self.name, self.weights, commit, self._own_config(commit))

    def image_text_processor(self, revision: str) -> ProcessorMixin:
        """Load the processor of images and text, see `parbench.bench.models.processors.load_image_text_processor`.

        Raises:
            UserError: there is none.
        """
        commit = self._commit(revision)
        return load_image_text_processor(self.name, self.weights, commit, self._own_config(commit))

    def features_text_processor(self, revision: str) -> ProcessorMixin:
        """Load the processor of features, see `parbench.bench.models.processors.load_features_text_processor`.

        Raises:
            UserError: there is none.
        """
        commit = self._commit(revision)
        return load_features_text_processor(self.name, self.weights, commit, self._own_config(commit))

    def check(self, revision: str, head: Head) -> None:
        """Check that the model's architecture is known to methods and can have the head of a task.

        Raises:
            UserError: it is not, or cannot, or the weights are quantised, or there are none.
        """
        config = self.config(revision)
        self.check_described(config)
        if quantised := getattr(config, "quantization_config", None):
            method = quantised.get("quant_method", "") if isinstance(quantised, dict) else quantised.quant_method
            raise UserError(
                f'the weights of "{self.name}" are quantised ({getattr(method, "value", method) or "unnamed method"}), '
                "and runs start from weights in full precision; give the model that they were made of"
            )
        self._check_head(config, head)
        if self.shape is None:
            with self._explained():
                self.weights.check()

    def check_described(self, config: PreTrainedConfig) -> None:
        """Check that methods know the names of the modules of an architecture.

        Raises:
            UserError: they do not.
        """
        if (kind := adapted_kind(config)) not in MODULE_NAMES:
            raise UserError(
                f'the base model "{self.name}" has the architecture "{kind}", which cannot be adapted: '
                f"{why_not_described(kind)}"
            )

    def load(self, head: Head, revision: str, precision: BasePrecision = FLOAT32) -> PreTrainedModel:
        """Load the backbone under its own head, or a new one drawn from torch's generator.

        The weights are read in float32, and then converted to ``precision``.

        Layers between backbone and head that the checkpoint lacks, such as a pooler, become part of the head. The model
        pads with its tokenizer's padding token: by it a classifier finds the last token of a text.

        Raises:
            UserError: the files are not available or not readable, or do not fit their configuration; or what converts
                the weights is not installed.
        """
        commit = self._commit(revision)
        auto_class = getattr(transformers, auto_class_for(self._own_config(commit), head))
        kind = "single_label_classification" if head.labels else "regression"
        new_head = {"num_labels": head.num_labels, "problem_type": kind} if head.is_new else {}
        with self._explained(), _quiet_loading():
            model, info = auto_class.from_pretrained(
                self.weights.location(),
                revision=commit,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **new_head,
            )
        if getattr(model, "_hf_peft_config_loaded", False):
            raise UserError(
                f'the base model "{self.name}" has an adapter beside it, which transformers has put on it; give the '
                "model without it, or merge the two and save the result"
            )
        report = LoadReport.of(info)
        added = layers_for_head(model, report, self.name)
        add_to_head(model, added)
        if added:
            warnings.warn(
                f"the checkpoint of {self.name} has no {' and no '.join(added)}: newly initialised, and trained and "
                "counted as part of the task head",
                stacklevel=2,
            )
        if unused := unused_layers(model, report):
            warnings.warn(f"{self.name}: {unused}", stacklevel=2)
        if head.is_new:
            redraw_head(model, report)
        self._pad_alike(model, revision)
        convert_base(model, precision, module_names(model).head)
        return model if auto_class.__name__ == head.auto_class else read_clips(model)

    def _check_head(self, config: PreTrainedConfig, head: Head) -> None:
        if not takes(config, head):
            raise UserError(
                f'the task needs {_NEEDED.get(head.auto_class, head.auto_class)}, and the base model "{self.name}" is '
                f"a {adapted_kind(config)}; give another to --model"
            )

    def padding_token(self, config: PreTrainedConfig, revision: str) -> int | None:
        """Return the padding token of a model of text: its tokenizer's, or its configuration's where it has none."""
        try:
            return load_tokenizer(self.name, self.weights, self._commit(revision), config).pad_token_id
        except UserError:
            # Whoever tokenises is refused; a model alone can be loaded.
            text = config.get_text_config()
            padding = text.pad_token_id if text.pad_token_id is not None else text.eos_token_id
            return padding[0] if isinstance(padding, list) else padding

    def _pad_alike(self, model: PreTrainedModel, revision: str) -> None:
        text = model.config.get_text_config()
        if hasattr(text, "pad_token_id"):  # not of a model of images
            text.pad_token_id = model.config.pad_token_id = self.padding_token(model.config, revision)

    def _layers_for_head(self, model: PreTrainedModel) -> tuple[str, ...]:
        """Return the layers of the head that the checkpoint lacks, from the names of its tensors."""
        with self._explained(), _quiet_loading():
            shapes = self.weights.shapes(self._any_commit)
            if shapes is None:  # files on the hub whose names only loading shows
                return ()
            return layers_for_head(model, match(model, shapes), self.name)

    def _own_config(self, commit: str, **changes: Any) -> PreTrainedConfig:
        with self._explained():
            return AutoConfig.from_pretrained(self.weights.location(), revision=commit, **changes)

    @property
    def _any_commit(self) -> str:
        return getattr(self.weights, "commit", None) or "main"

    def _commit(self, revision: str) -> str:
        return revision if self.weights.on_hub else "main"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of transformers and the hub for files that are not there into a sentence."""
        try:
            yield
        except (OSError, ValueError, SafetensorError) as error:
            if isinstance(error, UserError):
                raise
            reason = (str(error).splitlines() or [""])[0]
            advice = (
                "connect to the network the first time, or give a local folder with --model"
                if self.weights.on_hub
                else "check its files"
            )
            raise UserError(f'the base model "{self.name}" cannot be loaded; {advice} ({reason})') from error


_NEEDED = {
    "AutoModelForCausalLM": "a causal language model",
    "AutoModelForSequenceClassification": "a model of text",
    "AutoModelForImageClassification": "a model of images",
    "AutoModelForImageTextToText": "a language model that sees images",
    "AutoModelForSeq2SeqLM": "a language model that is given the features of a video, such as vl-bart-video",
    "AutoModelForVideoClassification": "a model of videos or images",
}


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Silence transformers' own report of new layers, which is evaluated here, and its progress bar."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
