"""A small copy of four tasks of the VALUE benchmark in its publishers' layout, with made-up videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 6
EPISODES = [f"castle_s01e{number:02}" for number in range(12)]
CLIPS = [f"{episode}_seg02_clip_{clip:02}" for episode in EPISODES for clip in (0, 1)]
SHORTS = [str(number) for number in range(24)]
RECIPES = [f"recipe-{number}_{clip}" for number in range(12) for clip in (0, 1)]
VIDEOS = {"tv": CLIPS, "how2": SHORTS, "yc2": RECIPES}
VALIDATED = 4


def write_lines(path: Path, entries: Sequence[Any]) -> None:
    """Write a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def read_lines(path: Path) -> list[Any]:
    """Return the lines of such a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_features(path: Path, segments: int = 5, seed: int = 0, size: int = SIZE, **changes: Any) -> None:
    """Write the features of a video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = np.random.default_rng(seed).normal(size=(segments, size)).astype(np.float16)
    np.savez(path, **{"features": found, **changes})


def value_folder(root: Path) -> Path:
    """Write all four tasks; return their folder."""
    folder = root / "value"
    for domain, videos in VIDEOS.items():
        spoken = [
            {"vid_name": video, "sub": [{"text": f" Said in {video}. ", "start": 0.5, "end": 1.5}] * (number % 3)}
            for number, video in enumerate(videos)
        ]
        write_lines(folder / f"ann/{domain}_subtitles.jsonl", spoken)
        for number, video in enumerate(videos):
            write_features(folder / f"vis_features/{domain}/clip-vit/{video}.npz", 3 + number % 3, number)
    for name, videos, answers in (("tvqa", CLIPS, 5), ("how2qa", SHORTS, 4)):
        ending = "" if name == "tvqa" else "_release"
        entries = [_question(number, video, answers) for number, video in enumerate(videos)]
        _split(folder / f"ann/{name}/{name}", ending, entries)
    for name, videos in (("tvc", CLIPS), ("yc2c", RECIPES)):
        entries = [_clip(number, video, name == "tvc") for number, video in enumerate(videos)]
        _split(folder / f"ann/{name}/{name}", "_release", entries)
    return folder


def _split(path: Path, ending: str, entries: Sequence[Any]) -> None:
    write_lines(path.with_name(f"{path.name}_train{ending}.jsonl"), entries[:-VALIDATED])
    write_lines(path.with_name(f"{path.name}_val{ending}.jsonl"), entries[-VALIDATED:])


def _question(number: int, video: str, answers: int) -> dict[str, Any]:
    texts = {f"a{place}": f"Because of {place + number}." for place in range(answers)}
    return {
        **texts,
        "answer_idx": number % answers,
        "q": f"Why does number {number} sit? ",
        "qid": 100 + number,
        "show_name": "Castle",
        "ts": "nan-nan" if number == 1 else f"0.5-{2 + number % 3}.25",
        "vid_name": video,
    }


def _clip(number: int, video: str, of_a_moment: bool) -> dict[str, Any]:
    count = 2 if of_a_moment else 1
    descs = [
        {"desc": f"person {number} puts the pan on stove {one}.", "desc_id": 10 * number + one, "type": "v"}
        for one in range(count)
    ]
    moment = {"ts": [0.5, 2.25]} if of_a_moment else {}
    return {"vid_name": video, "duration": 4.5, "descs": descs, "clip_id": 500 + number, **moment}
