"""Small copies of VQA v2, GQA, NLVR2 and COCO's captions in their publishers' layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.pictures import encoded, picture


def image(path: Path, seed: int) -> None:
    """Write a JPEG of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed=seed), "JPEG"))


def karpathy(folder: Path, images: bool = True) -> list[dict[str, Any]]:
    """Write ``dataset_coco.json`` with twelve images: eight to train on, half of them of COCO's validation split."""
    entries = []
    splits = [*["train", "train", "restval", "restval"] * 2, "val", "val", "test", "test"]
    for number, split in enumerate(splits):
        place = "train2014" if split == "train" else "val2014"
        name = f"COCO_{place}_{number:012}.jpg"
        if images:
            image(folder / place / name, number)
        captions = [f"A cat number {number} sits on a mat.", f"There is a small cat {number}, on some mat!"]
        sentences = [{"raw": text, "tokens": text.split()} for text in captions]
        entries.append({"filepath": place, "filename": name, "cocoid": number, "split": split, "sentences": sentences})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
    return entries


def coco(root: Path) -> Path:
    """Write the captions."""
    folder = root / "coco"
    folder.mkdir()
    karpathy(folder)
    return folder


def vqa_v2(root: Path) -> Path:
    """Write a question per image, which eight of ten annotators agree on."""
    folder = root / "vqa_v2"
    folder.mkdir()
    halves: dict[str, tuple[list[Any], list[Any]]] = {"train2014": ([], []), "val2014": ([], [])}
    for entry in karpathy(folder):
        asked, answered = halves[entry["filepath"]]
        number = 10 * entry["cocoid"]
        asked.append({"image_id": entry["cocoid"], "question": f"How many cats in {number}?", "question_id": number})
        answers = [{"answer": "2" if place < 8 else "two", "answer_id": place + 1} for place in range(10)]
        answered.append({"question_id": number, "multiple_choice_answer": "2", "answers": answers})
    for half, (asked, answered) in halves.items():
        (folder / f"v2_OpenEnded_mscoco_{half}_questions.json").write_text(json.dumps({"questions": asked}))
        (folder / f"v2_mscoco_{half}_annotations.json").write_text(json.dumps({"annotations": answered}))
    return folder


def gqa(root: Path) -> Path:
    """Write two questions per split."""
    folder = root / "gqa"
    for start, split in enumerate(("train", "val", "testdev")):
        questions = {}
        for number in (2 * start, 2 * start + 1):
            image(folder / "images" / f"{number}.jpg", number)
            questions[f"q{number}"] = {"imageId": str(number), "question": f"Is it {number}?", "answer": "yes"}
        (folder / f"{split}_balanced_questions.json").write_text(json.dumps(questions))
    return folder


def nlvr2(root: Path) -> Path:
    """Write two statements per split, the first about two pairs of images."""
    folder = root / "nlvr2"
    for split in ("train", "dev", "test1"):
        lines = []
        for pair, sentence, label in ((0, 0, "True"), (1, 0, "False"), (0, 1, "True")):
            place = folder / "images" / ("train/7" if split == "train" else split)
            for side in (0, 1):
                image(place / f"{split}-12-{pair}-img{side}.png", 10 * pair + side)
            entry = {
                "identifier": f"{split}-12-{pair}-{sentence}",
                "sentence": f"Both show {sentence}.",
                "label": label,
            }
            lines.append({**entry, "directory": 7} if split == "train" else entry)
        (folder / f"{split}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
