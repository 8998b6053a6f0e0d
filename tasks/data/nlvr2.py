"""NLVR2's statements about pairs of photographs, in the publishers' files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from parbench.tasks.data.layouts import PublishedFiles, field, image_file, read_json_lines
from parbench.tasks.data.text_files import unreadable

# By split; the name of its file.
SPLITS = {"train": "train", "dev": "dev", "test1": "test1"}
# split-set-pair-sentence.
_IDENTIFIER = re.compile(r"[a-z0-9]+-\d+-\d+-\d+", re.ASCII)


@dataclass(frozen=True)
class Statements(PublishedFiles):
    """``{train,dev,test1}.json`` (JSON lines), and images in ``images/train/0/``, ``images/dev/``, ``images/test1/``.

    The publishers keep training images in numbered folders, the ``directory`` of an entry; ``images/`` may be left out.
    """

    files: ClassVar[tuple[str, ...]] = tuple(f"{name}.json" for name in SPLITS.values())

    def rows(self, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
        """Return ``images``, ``sentence``, ``label`` (true or false), and ``group``, the same for a sentence."""
        found: dict[str, list[dict[str, Any]]] = {}
        for split, name in SPLITS.items():
            path = folder / f"{name}.json"
            found[split] = [_row(folder, name, entry, path) for entry in read_json_lines(path)]
        return found


def _row(folder: Path, split: str, entry: Any, path: Path) -> dict[str, Any]:
    identifier = field(entry, "identifier", str, path)
    if not _IDENTIFIER.fullmatch(identifier):
        raise unreadable(path, f'an entry has the identifier "{identifier[:80]}", which is not split-set-pair-sentence')
    label = field(entry, "label", (str, bool), path)
    if str(label).lower() not in ("true", "false"):
        raise unreadable(path, f'the entry {identifier} has the label "{label}", which is neither True nor False')
    name, chosen, pair, sentence = identifier.split("-")
    places = [split, "."]
    if "directory" in entry:
        places = [f"{split}/{field(entry, 'directory', int, path)}", *places]
    places += [f"images/{place}" for place in places]
    images = [image_file(folder, f"{name}-{chosen}-{pair}-img{side}.png", places) for side in (0, 1)]
    return {
        "images": images,
        "sentence": field(entry, "sentence", str, path),
        "label": str(label).lower(),
        # The publishers' consistency: a sentence counts where it is judged right for all its pairs of images.
        "group": f"{name}-{chosen}-{sentence}",
    }
