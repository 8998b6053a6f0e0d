"""Computes the features of videos by CLIP's image model, once, for tasks that are given them.

As the VALUE benchmark has them (its extractor is linjieli222/HERO_Video_Feature_Extractor): the projected output of a
frame per 1.5 seconds, not normalised, in 16 bits. Here the frame is the one in the middle of each segment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading
from parbench.tasks.data.features import save
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.value import SEGMENT
from parbench.tasks.data.video.decoding import encoded, frames_every

CLIP = "openai/clip-vit-base-patch32"


def compute(
    videos: str | Path,
    folder: str | Path,
    model: str = CLIP,
    revision: str = "main",
    batch_size: int = 32,
    device: str = "cpu",
) -> int:
    """Write ``NAME.npz`` into ``folder`` for every video ``NAME.*`` that has none there yet; return how many.

    What was begun and not finished leaves no file, so that the same call goes on.

    Args:
        videos: a folder of video files.
        folder: where to write; it is made.
        model: CLIP, by its repository on the hub or its folder.
        revision: its commit.
        batch_size: frames per forward pass.
        device: where the model is.

    Raises:
        UserError: there are no videos, two have one name, or one cannot be read.
    """
    wanted = _missing(Path(videos), Path(folder))
    if not wanted:
        return 0
    tower = CLIPVisionModelWithProjection.from_pretrained(model, revision=revision).eval().to(device)
    transform = Preprocessing.of(AutoImageProcessor.from_pretrained(model, revision=revision)).evaluation()
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in wanted:
        found, left = [], _frames(path)
        while frames := list(islice(left, batch_size)):
            pixels = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
            with torch.no_grad():
                found.append(tower(pixels.to(device)).image_embeds.float().cpu().numpy())
        place = Path(folder) / f"{path.stem}.npz"
        begun = place.with_suffix(f".{os.getpid()}.npz")
        save(begun, np.concatenate(found))
        begun.replace(place)
    return len(wanted)


def _missing(videos: Path, folder: Path) -> list[Path]:
    with reading(videos):
        if not videos.is_dir():
            raise UserError(f'there is no folder "{videos}"; give the folder of the video files')
        files = sorted(path for path in videos.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise UserError(f'there is no file in "{videos}"; give the folder of the video files')
    by_name: dict[str, Path] = {}
    for path in files:
        if path.stem in by_name:
            raise UserError(
                f'"{by_name[path.stem]}" and "{path}" would both be {path.stem}.npz; rename or remove one of them'
            )
        by_name[path.stem] = path
    return [path for name, path in by_name.items() if not (folder / f"{name}.npz").is_file()]


def _frames(path: Path) -> Iterator[Any]:
    clip = {"path": str(path)}
    return frames_every(encoded(clip, "the video"), SEGMENT, clip, "the video")
