"""GQA's balanced questions about real scenes, in the publishers' files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from parbench.tasks.data.layouts import PublishedFiles, field, image_file, read_json

# By split; the name of the file's split.
SPLITS = {"train": "train", "val": "val", "testdev": "testdev"}


@dataclass(frozen=True)
class GqaQuestions(PublishedFiles):
    """``{train,val,testdev}_balanced_questions.json`` and ``images/``."""

    files: ClassVar[tuple[str, ...]] = tuple(f"{name}_balanced_questions.json" for name in SPLITS.values())

    def rows(self, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
        """Return ``image``, ``question`` and ``answer``."""
        found: dict[str, list[dict[str, Any]]] = {}
        for split, name in SPLITS.items():
            path = folder / f"{name}_balanced_questions.json"
            entries = field({"questions": read_json(path)}, "questions", dict, path)
            found[split] = [
                {
                    "image": image_file(folder, f"{field(entry, 'imageId', str, path)}.jpg", ("images",)),
                    "question": field(entry, "question", str, path),
                    "answer": field(entry, "answer", str, path),
                }
                for entry in entries.values()
            ]
        return found
