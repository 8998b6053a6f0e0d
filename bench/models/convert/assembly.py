"""Puts a vision transformer and a language model together to one that sees images, in LLaVA's shape.

Between the two is LLaVA's connector, two linear layers, of which no weights are written: every run draws its own from
its seed, and trains them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from parbench.bench.models.convert.conversion import Conversion, kept_folder
from parbench.bench.models.convert.weights import WEIGHTS, checksum, save_model
from parbench.bench.util.errors import UserError
from parbench.bench.util.source_hash import source_hash

if TYPE_CHECKING:
    import numpy as np

_CONNECTOR = "model.multi_modal_projector."


@dataclass(frozen=True)
class Assembly:
    """A model that sees images, made of two converted ones.

    Attributes:
        name: of the folder in the cache.
        vision: the vision transformer.
        vision_layers: how many of its layers are taken, from the first on.
        language: the language model.
        image_mark: a token of the language model's vocabulary that no text has; it stands where an image is.
        image_size: height and width to which images are resized, a multiple of the patches'.
        sizes: LLaVA's configuration beside those of the two models.
        checksum: expected value of `parbench.bench.models.convert.weights.checksum` for the folder.
    """

    name: str
    vision: Conversion
    vision_layers: int
    language: Conversion
    image_mark: str
    image_size: tuple[int, int]
    checksum: str
    sizes: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def revision(self) -> str:
        """The hash of both models and of what puts them together."""
        parts = {
            "vision": self.vision.revision,
            "layers": self.vision_layers,
            "language": self.language.revision,
            "code": source_hash(__name__, rooms=("parbench.bench.models.convert",)),
            "image": [self.image_mark, *self.image_size],
            "sizes": self.sizes,
        }
        return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"

    def folder(self) -> Path:
        """Return the model's folder, made on first use, and again if one of its files is damaged.

        Raises:
            UserError: one of the two models is not available, or the result is not the expected one.
        """
        return kept_folder(f"{self.name}-{self.revision.removeprefix('sha256:')[:24]}", self._assemble)

    def _assemble(self, folder: Path) -> None:
        from transformers import AutoConfig, LlavaConfig, LlavaForConditionalGeneration

        vision, language = self.vision.folder(), self.language.folder()
        try:
            processor = self._processor(vision, language)
            config = LlavaConfig(
                vision_config=self._vision_config(vision),
                text_config=AutoConfig.from_pretrained(language),
                image_token_index=processor.tokenizer.convert_tokens_to_ids(self.image_mark),
                **self.sizes,
            )
            tensors = {name: tensor for name, tensor in _tensors(vision, language) if not self._leaves_out(name)}
            save_model(LlavaForConditionalGeneration, config, tensors, folder, untrained=_CONNECTOR)
            processor.save_pretrained(folder)
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"the base model {self.name} cannot be put together ({reason})") from error
        found = checksum(folder)
        if found != self.checksum:
            raise UserError(f"the base model {self.name} is not the expected one (its tensors hash to {found})")

    def _vision_config(self, vision: Path) -> Any:
        from transformers import AutoConfig

        whole = AutoConfig.from_pretrained(vision).to_dict()
        # Of a backbone's stages, which are its layers.
        kept = {
            name: value for name, value in whole.items() if name not in ("out_features", "out_indices", "stage_names")
        }
        return AutoConfig.for_model(**{**kept, "num_hidden_layers": self.vision_layers})

    def _leaves_out(self, name: str) -> bool:
        number = re.match(r"model\.vision_tower\.encoder\.layer\.(\d+)\.", name)
        return number is not None and int(number[1]) >= self.vision_layers

    def _processor(self, vision: Path, language: Path) -> Any:
        from transformers import AutoConfig, AutoTokenizer, BitImageProcessorPil, LlavaProcessor

        height, width = self.image_size
        image_processor = BitImageProcessorPil.from_pretrained(
            vision, size={"height": height, "width": width}, do_center_crop=False
        )
        tokenizer = AutoTokenizer.from_pretrained(language)
        # That of the language model has no place for images.
        tokenizer.chat_template = None
        patch = AutoConfig.from_pretrained(vision).patch_size
        return LlavaProcessor(
            image_processor,
            tokenizer,
            patch_size=patch,
            vision_feature_select_strategy="default",
            image_token=self.image_mark,
            num_additional_image_tokens=1,
        )


def _tensors(vision: Path, language: Path) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import safe_open

    for folder, prefix, new in (
        (vision, "", "model.vision_tower."),
        (language, "model.", "model.language_model."),
    ):
        with safe_open(folder / WEIGHTS, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - the file has no items
                yield new + name.removeprefix(prefix), file.get_tensor(name)
