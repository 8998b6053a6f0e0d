"""The parts of models that see images and write text: vision tower, connector and language model.

Adapters go on the query and value projections of the language model. Those of another part are named with it in front:
``target_modules=[vision_tower:q_proj,language_model:q_proj]``; a name without a part means the modules of all parts.
The connector is the head of such a model: it is trained whole under every method and counted in no budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

VISION_TOWER, LANGUAGE_MODEL = "vision_tower", "language_model"


@dataclass(frozen=True)
class Parts:
    """What one architecture calls the modules that its parts are.

    Attributes:
        vision_tower: reads the image.
        connector: turns what the vision tower has found into inputs of the language model.
        language_model: writes the text.
    """

    vision_tower: str
    connector: str
    language_model: str

    def module(self, part: str) -> str:
        """Return the module of a part that an adapter can be put on.

        Raises:
            UserError: there is no such part.
        """
        found = {VISION_TOWER: self.vision_tower, LANGUAGE_MODEL: self.language_model}
        if part == "connector":
            raise UserError("target_modules names the connector, which is trained whole anyway; leave it out")
        if part not in found:
            raise UserError(f'target_modules has the part "{part}", which no model has{did_you_mean(part, found)}')
        return found[part]


_LLAVA_LIKE = Parts("vision_tower", "multi_modal_projector", "language_model")
_IDEFICS_LIKE = Parts("vision_model", "connector", "text_model")
_QWEN_LIKE = Parts("visual", "merger", "language_model")

# Keyed by `config.model_type`; the names are those of transformers 5. VL-BART is not of transformers.
PARTS: dict[str, Parts] = {
    **dict.fromkeys(("vl_bart", "vl_bart_video"), Parts("vision_tower", "visual_embedding", "language_model")),
    **dict.fromkeys(("llava", "llava_next", "llava_onevision", "internvl"), _LLAVA_LIKE),
    **dict.fromkeys(("idefics3", "smolvlm"), _IDEFICS_LIKE),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), _QWEN_LIKE),
}


def modules_in(model: nn.Module, part: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the modules of ``model`` inside ``part`` that have one of these names, or end with one.

    The first component is left out: peft applies its choice of layers only to names that it finds at the end of others.
    """
    ends = tuple(f".{name}" for name in names)
    inside = (name for name, _ in model.named_modules() if part in name.split(".")[:-1] and name.endswith(ends))
    return tuple(suffix(name, part) for name in inside)


def suffix(name: str, part: str | None) -> str:
    """Return a module's full name without its first component, where that is not ``part`` and not all of it."""
    first, _, rest = name.partition(".")
    return name if first == part or not rest else rest
