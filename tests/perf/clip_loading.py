"""Measures the loading of many small clips: run with ``python -m tests.perf.clip_loading``.

Made-up clips are written to a temporary folder, read as a task reads them, once without and once with the frames that
were kept on the disk; time is of this process's CPU and by the clock, memory is what the process has grown by.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from datasets import Dataset, Features, Value, Video

from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.video.clip_rows import ClipRows, DrawnClips
from parbench.tasks.data.video.frame_cache import FrameCache
from parbench.tasks.data.video.sampling import Sampling
from tests.support.clips import clip

USUAL = Preprocessing((112, 112), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 0.875)
BATCH = 16


def write_clips(folder: Path, count: int, frames: int, width: int, height: int) -> list[str]:
    """Write clips of a moving stripe, each at its own speed."""
    columns = np.arange(width)
    paths = []
    for number in range(count):
        speed = 1 + number % 7
        stripes = [((columns + number + speed * frame) % 64 * 4).astype(np.uint8) for frame in range(frames)]
        pictures = [np.repeat(np.tile(stripe, (height, 1))[:, :, None], 3, axis=2) for stripe in stripes]
        path = folder / f"{number}.mp4"
        path.write_bytes(clip(kind="mp4", pictures=pictures, rate=25))
        paths.append(str(path))
    return paths


@contextmanager
def measured(what: str, clips: int) -> Iterator[None]:
    """Print the time per clip, and by how much the process's memory has grown since the beginning."""
    process = psutil.Process()
    wall, cpu, before = time.perf_counter(), time.process_time(), process.memory_info().rss
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    grown = (process.memory_info().rss - before) / 2**20
    times = f"{1000 * cpu / clips:.1f} ms of CPU a clip, {1000 * wall / clips:.1f} ms by the clock"
    print(f"{what}: {times}, {grown:+.0f} MiB", flush=True)


def read(rows: ClipRows | DrawnClips) -> None:
    """Read all rows in batches, keeping none."""
    for start in range(0, len(rows), BATCH):
        rows.__getitems__(range(start, min(start + BATCH, len(rows))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("clips", 1000), ("frames", 30), ("width", 160), ("height", 120), ("sampled", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}; {asked}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with measured("writing", asked.clips):
            paths = write_clips(folder, asked.clips, asked.frames, asked.width, asked.height)
        features = Features({"video": Video(decode=False), "label": Value("int64"), "example": Value("string")})
        columns = {"video": paths, "label": [0] * len(paths), "example": paths}
        dataset = Dataset.from_dict(columns, features)
        cache = FrameCache(folder / "kept", 2**32)
        rows = ClipRows(dataset, USUAL, Sampling(asked.sampled), "frames", cache)
        for what, found in (
            ("evaluation, first time", rows),
            ("evaluation, kept frames", rows),
            ("training with jitter", DrawnClips(rows, "none", True, 1)),
        ):
            with measured(what, asked.clips):
                read(found)
        kept = sum(path.stat().st_size for path in (folder / "kept").rglob("*") if path.is_file())
        print(f"kept on the disk: {kept / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
