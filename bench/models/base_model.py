"""The base models: frozen backbones by name and pinned revision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from parbench.bench.models.configs import Shape
from parbench.bench.models.weights import Weights
from parbench.bench.util.errors import UserError
from parbench.methods.architecture import MODULE_NAMES

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from parbench.tasks.base import Head, Modality


@dataclass(frozen=True)
class BaseModel:
    """A frozen backbone.

    Attributes:
        name: what tables call it.
        weights: where its files come from.
        shape: its architecture, where it is known without the files.
    """

    name: str
    weights: Weights
    shape: Shape | None = None

    def skeleton(self, head: Head | None = None, device: str = "meta") -> PreTrainedModel:
        """Return the architecture under ``head``, or the model's own; its weights are random, or none on ``meta``.

        Raises:
            UserError: the shape is not known here and the configuration cannot be had.
        """
        import torch
        import transformers

        config = self.config(num_labels=head.num_labels if head else 2)
        auto_class = head.auto_class if head else self.shape.auto_class if self.shape else _OWN_HEAD
        with torch.device(device):
            return getattr(transformers, auto_class).from_config(config)

    def config(self, **changes: Any) -> PreTrainedConfig:
        """Return the architecture's configuration, from its shape or its files, with ``changes``."""
        if self.shape is not None:
            return self.shape.config(**changes)
        from transformers import AutoConfig

        with _explained(self.name):
            return AutoConfig.from_pretrained(self.weights.location(), **changes)

    def processor(self, modality: Modality, revision: str) -> Any:
        """Load what prepares the model's inputs: the tokenizer, or the image processor."""
        return self.tokenizer(revision) if modality == "text" else self.image_processor(revision)

    def tokenizer(self, revision: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer. One without a padding token pads with its end of text, which the attention mask hides."""
        from transformers import AutoTokenizer

        with _explained(self.name):
            tokenizer = AutoTokenizer.from_pretrained(self.weights.location(), revision=self._commit(revision))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def image_processor(self, revision: str) -> BaseImageProcessor:
        """Load the image processor."""
        from transformers import AutoImageProcessor

        with _explained(self.name):
            return AutoImageProcessor.from_pretrained(self.weights.location(), revision=self._commit(revision))

    def check(self, revision: str, head: Head) -> None:
        """Make sure that the model can be had, is of an architecture that methods know, and can have a task's head.

        Raises:
            UserError: it cannot, or is not.
        """
        from transformers import AutoConfig

        with _explained(self.name):
            config = AutoConfig.from_pretrained(self.weights.location(), revision=self._commit(revision))
        kind = config.model_type
        if kind not in MODULE_NAMES:
            raise UserError(
                f'the base model "{self.name}" is of the architecture "{kind}", whose modules are not described in '
                f"methods/architecture.py; describe them there, or use one of {', '.join(sorted(MODULE_NAMES))}"
            )
        if not _takes(config, head):
            raise UserError(
                f'the task needs {_NEEDED.get(head.auto_class, head.auto_class)}, and the base model "{self.name}" is '
                f"a {kind}; give another to --model"
            )

    def load(self, head: Head, revision: str) -> PreTrainedModel:
        """Load the backbone in float32 under its own head, or a new one drawn from torch's generator.

        Raises:
            UserError: the files cannot be had or read.
        """
        import torch
        import transformers
        from transformers.utils import logging

        auto_class = getattr(transformers, head.auto_class)
        kind = "single_label_classification" if head.labels else "regression"
        new_head = {"num_labels": head.num_labels, "problem_type": kind} if head.is_new else {}
        # The loading report tells that the head is new, which is the point, and draws a bar of its own.
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            with _explained(self.name):
                model, report = auto_class.from_pretrained(
                    self.weights.location(),
                    revision=self._commit(revision),
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    **new_head,
                )
        finally:
            logging.set_verbosity(verbosity)
        self._redraw_head(model, report, head)
        config = model.config.get_text_config()
        if getattr(config, "pad_token_id", 0) is None:  # an image model has none to give
            # By it a classifier finds a text's last token; the tokenizer pads with the same, see `tokenizer`.
            config.pad_token_id = config.eos_token_id
        return model

    def _redraw_head(self, model: PreTrainedModel, report: Any, head: Head) -> None:
        """Draw a new head where the checkpoint brought one along (an ImageNet classifier's, say).

        Raises:
            UserError: the checkpoint does not fit its own configuration.
        """
        from parbench.methods.architecture import module_names

        names = module_names(model)
        foreign = [name for name, *_ in report["mismatched_keys"] if not names.in_head(name)]
        if foreign:
            raise UserError(f'the weights of "{self.name}" do not fit its configuration ({foreign[0]}); get them anew')
        if not head.is_new:
            return
        drawn = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
        brought = {name for name, _ in model.named_parameters() if names.in_head(name)} - drawn
        for module in map(model.get_submodule, dict.fromkeys(name.rpartition(".")[0] for name in sorted(brought))):
            for parameter in module.parameters(recurse=False):
                # transformers leaves alone what it has read from a file.
                parameter._is_hf_initialized = False  # type: ignore[attr-defined]
            model._init_weights(module)

    def _commit(self, revision: str) -> str:
        return revision if self.weights.on_hub else "main"


# The head of a model of unknown shape, where no task says otherwise.
_OWN_HEAD = "AutoModelForSequenceClassification"


_NEEDED = {
    "AutoModelForCausalLM": "a causal language model",
    "AutoModelForSequenceClassification": "a model of text",
    "AutoModelForImageClassification": "a model of images",
}


def _takes(config: PreTrainedConfig, head: Head) -> bool:
    """Tell whether a model of a configuration can have a head."""
    import transformers

    if type(config) not in getattr(transformers, head.auto_class)._model_mapping:
        return False
    # Of an encoder transformers makes a language model too, one that was never taught to continue a text.
    return head.is_new or type(config) not in transformers.AutoModelForMaskedLM._model_mapping


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn transformers' many ways of not finding files into a sentence."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f'the base model "{name}" cannot be loaded; connect to the network the first time, or give a local folder '
            f"with --model ({reason})"
        ) from error
