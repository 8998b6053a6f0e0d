"""The files of an adapter: identical for identical runs, and without frozen weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import ModelCard
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from torch import Tensor

CARD = "README.md"
TEMPLATE_MARK = "[More Information Needed]"
"""Placeholder in the fields of peft's card template."""


@contextmanager
def sorted_sets(config: PeftConfig) -> Iterator[None]:
    """Replace the sets of a configuration by sorted lists inside the block.

    peft writes a set in its iteration order, which differs between processes.
    """
    sets = {name: value for name, value in vars(config).items() if isinstance(value, set)}
    for name, value in sets.items():
        setattr(config, name, sorted(value))
    try:
        yield
    finally:
        for name, value in sets.items():
            setattr(config, name, value)


def save_config(config: PeftConfig, folder: Path) -> None:
    """Write ``adapter_config.json``."""
    with sorted_sets(config):
        config.save_pretrained(str(folder))


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter, and modules that are trained whole such as the task head, for ``PeftModel.from_pretrained``.

    peft adds the frozen embedding matrices if an adapter targets the embeddings or the language model's head. They are
    left out here, since vocabularies are never resized.
    """
    with sorted_sets(model.peft_config["default"]):
        model.save_pretrained(str(folder), save_embedding_layers=False)


def adapter_tensors(model: PeftModel) -> dict[str, Tensor]:
    """Return the tensors that `save_adapter` writes."""
    state: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return state


def write_card(folder: Path, kind: str, import_name: str) -> None:
    """Write into the card of an adapter's folder which import registers its tuner with peft.

    Text that a user has added to the card is kept; peft's empty template is replaced.

    Args:
        folder: has ``adapter_config.json``.
        kind: name of the tuner, such as ``LOCA``.
        import_name: the module to import.
    """
    lines = f"""# {kind} adapter

peft does not have this tuner. Import the package that registers it before the adapter is loaded:

```python
import {import_name}  # registers {kind}
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "path/to/this/folder")
```

Without the import, peft raises `KeyError: '{kind}'`.
"""
    file = folder / CARD
    card = ModelCard.load(file) if file.is_file() else ModelCard("---\nlibrary_name: peft\n---\n")
    if f"import {import_name}  #" in card.text:
        return
    written = "" if TEMPLATE_MARK in card.text else card.text.strip()
    card.text = f"{written}\n\n{lines}".lstrip()
    card.save(file)
