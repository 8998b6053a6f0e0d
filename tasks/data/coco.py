"""MS COCO's images of 2014 with their captions, by Karpathy's splits, and the questions of VQA v2 about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from parbench.tasks.data.layouts import PublishedFiles, field, image_file, read_json
from parbench.tasks.data.text_files import unreadable

# Karpathy and Li (2015): the images of a split, and their captions.
KARPATHY = "dataset_coco.json"
# What is trained on: COCO's own training images, and those of its validation split that are in neither of the others.
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


@dataclass(frozen=True)
class Captions(PublishedFiles):
    """``dataset_coco.json``, ``train2014/`` and ``val2014/``, the last two also inside ``images/``.

    Of the training split each caption is a row, of the others each image with all its captions.
    """

    files: ClassVar[tuple[str, ...]] = (KARPATHY,)

    def rows(self, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
        """Return ``image``, ``caption`` and ``captions``."""
        found: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
        path = folder / KARPATHY
        for entry in _karpathy(path):
            captions = [field(sentence, "raw", str, path) for sentence in field(entry, "sentences", list, path)]
            if not captions:
                raise unreadable(path, f"an image has no captions: {str(entry)[:80]}")
            image = _image(folder, entry, path)
            split = _split(entry, path)
            if split == "train":
                found[split] += [{"image": image, "caption": text, "captions": [text]} for text in captions]
            else:
                found[split].append({"image": image, "caption": captions[0], "captions": captions})
        return found


@dataclass(frozen=True)
class Questions(PublishedFiles):
    """VQA v2's questions and annotations for both of COCO's splits, ``dataset_coco.json``, and the images."""

    files: ClassVar[tuple[str, ...]] = (
        KARPATHY,
        *(
            name
            for split in ("train2014", "val2014")
            for name in (f"v2_OpenEnded_mscoco_{split}_questions.json", f"v2_mscoco_{split}_annotations.json")
        ),
    )

    def rows(self, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
        """Return ``image``, ``question``, ``answer``, the most frequent one, and ``answers``, all annotators'."""
        found: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
        path = folder / KARPATHY
        images = {field(entry, "cocoid", int, path): entry for entry in _karpathy(path)}
        for half in ("train2014", "val2014"):
            asked = folder / f"v2_OpenEnded_mscoco_{half}_questions.json"
            answered = folder / f"v2_mscoco_{half}_annotations.json"
            by_id = {
                field(entry, "question_id", int, answered): entry
                for entry in field(read_json(answered), "annotations", list, answered)
            }
            for question in field(read_json(asked), "questions", list, asked):
                number = field(question, "question_id", int, asked)
                image = images.get(field(question, "image_id", int, asked))
                if number not in by_id:
                    raise unreadable(answered, f"question {number} has no answers in it")
                if image is None:
                    raise unreadable(path, f"it has no image {question['image_id']}, which question {number} is about")
                found[_split(image, path)].append(
                    {
                        "image": _image(folder, image, path),
                        "question": field(question, "question", str, asked),
                        **_answers(by_id[number], answered),
                    }
                )
        return found


def _karpathy(path: Path) -> list[Any]:
    entries: list[Any] = field(read_json(path), "images", list, path)
    return entries


def _split(entry: Any, path: Path) -> str:
    name = field(entry, "split", str, path)
    if name not in _SPLITS:
        raise unreadable(path, f'an image is in the split "{name}", which is none of {", ".join(_SPLITS)}')
    return _SPLITS[name]


def _image(folder: Path, entry: Any, path: Path) -> str:
    place = field(entry, "filepath", str, path)
    if place not in ("train2014", "val2014"):
        raise unreadable(path, f'an image is in the folder "{place}", which is neither train2014 nor val2014')
    return image_file(folder, field(entry, "filename", str, path), (place, f"images/{place}"))


def _answers(entry: Any, path: Path) -> dict[str, Any]:
    answers = [field(one, "answer", str, path) for one in field(entry, "answers", list, path)]
    if len(answers) < 2:
        raise unreadable(path, f"a question has fewer than two answers: {str(entry)[:80]}")
    return {"answer": field(entry, "multiple_choice_answer", str, path), "answers": answers}
