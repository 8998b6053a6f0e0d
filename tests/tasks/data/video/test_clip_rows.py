"""Clips as rows: which frames a model gets, in which layout, drawn by what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value, Video

from parbench.bench.util.errors import UserError
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.video import clip_rows
from parbench.tasks.data.video.clip_rows import ClipRows, DrawnClips, grid_side, in_grid
from parbench.tasks.data.video.frame_cache import FrameCache
from parbench.tasks.data.video.sampling import Sampling
from tests.support.clips import HEIGHT, WIDTH, clip, number_of

# Neither resized nor normalised: a frame comes as it is, in 0 to 1.
AS_IS = Preprocessing((HEIGHT, WIDTH), (0.0,) * 3, (1.0,) * 3, "nearest", 1.0, "squash")


def rows(folder, lengths=(12, 30), sampling=None, layout="frames", kept=10**7):
    features = Features({"video": Video(decode=False), "label": Value("int64"), "example": Value("string")})
    files = {
        "video": [{"bytes": clip(length), "path": None} for length in lengths],
        "label": list(range(len(lengths))),
        "example": [f"train:{row}" for row in range(len(lengths))],
    }
    dataset = Dataset.from_dict(files, features)
    return ClipRows(dataset, AS_IS, sampling or Sampling(4), layout, FrameCache(folder / "frames", kept))


def numbers(pixels):
    """Return the numbers of frames by their pixels, (frames, 3, height, width)."""
    return [number_of(255 * frame.permute(1, 2, 0).numpy()) for frame in pixels]


def test_evaluation_reads_the_middle_of_each_part(tmp_path):
    first, second = (rows(tmp_path)[row] for row in (0, 1))
    assert first["pixel_values"].shape == (4, 3, HEIGHT, WIDTH)
    assert first["pixel_values"].dtype == torch.float32
    assert numbers(first["pixel_values"]) == [1, 4, 7, 10]
    assert numbers(second["pixel_values"]) == [3, 11, 18, 26]
    assert [first["labels"], second["labels"]] == [0, 1]


def test_selected_rows_are_in_the_order_that_was_asked_for(tmp_path):
    chosen = rows(tmp_path).select([1, 0])
    assert len(chosen) == 2
    assert numbers(chosen[0]["pixel_values"]) == [3, 11, 18, 26]


def test_the_rows_of_a_batch_are_those_that_are_read_one_by_one(tmp_path):
    lengths = [12 + 3 * row for row in range(11)]
    found = rows(tmp_path, lengths)
    for either in (found, DrawnClips(found, "none", True, 1), DrawnClips(found, "flip", True, 1)):
        batch = either.__getitems__([9, 0, 4, 4, 10])
        for row, one in zip([9, 0, 4, 4, 10], batch, strict=True):
            alone = either[row]
            assert torch.equal(one["pixel_values"], alone["pixel_values"])
            assert one["labels"] == alone["labels"] == row


def test_a_broken_clip_of_a_batch_is_named(tmp_path):
    found = rows(tmp_path)
    broken = found.dataset.map(lambda row: {"video": {"bytes": row["video"]["bytes"][:900], "path": None}})
    with pytest.raises(UserError, match="clip train:0 cannot be read as a video"):
        ClipRows(broken, AS_IS, Sampling(4), "frames", FrameCache(tmp_path, 0)).__getitems__([0, 1])


def test_a_grid_goes_row_by_row(tmp_path):
    pixels = rows(tmp_path, sampling=Sampling(3), layout="grid")[0]["pixel_values"]
    assert pixels.shape == (3, 2 * HEIGHT, 2 * WIDTH)
    cells = [pixels[:, :HEIGHT, :WIDTH], pixels[:, :HEIGHT, WIDTH:], pixels[:, HEIGHT:, :WIDTH]]
    assert numbers(cells) == [2, 6, 10]
    assert not pixels[:, HEIGHT:, WIDTH:].any()


@pytest.mark.parametrize(("frames", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_the_side_of_a_grid(frames, side):
    assert grid_side(frames) == side
    cells = torch.arange(1.0, frames + 1).view(frames, 1, 1, 1).expand(frames, 3, 2, 2)
    grid = in_grid(cells)
    assert grid.shape == (3, 2 * side, 2 * side)
    seen = grid[0, ::2, ::2].flatten().tolist()
    assert seen == [*range(1, frames + 1), *[0] * (side * side - frames)]


def test_clips_are_decoded_once_and_only_when_they_are_read(tmp_path, monkeypatch):
    decoded = []
    read = clip_rows.read_frames
    monkeypatch.setattr(clip_rows, "read_frames", lambda *given: decoded.append(given[1]) or read(*given))
    found = rows(tmp_path)
    assert decoded == []
    for _ in range(3):
        found[0]
    assert decoded == [(1, 4, 7, 10)]


def test_drawn_frames_depend_on_seed_epoch_and_row_only(tmp_path):
    def drawn(seed, epoch, row):
        found = DrawnClips(rows(tmp_path, lengths=(40, 40)), "none", True, seed)
        found.set_epoch(epoch)
        return tuple(numbers(found[row]["pixel_values"]))

    assert drawn(1, 0, 0) == drawn(1, 0, 0)
    seen = {drawn(seed, epoch, row) for seed in (1, 2) for epoch in (0, 1) for row in (0, 1)}
    assert len(seen) == 8
    assert all(10 * part <= number < 10 * part + 10 for clip in seen for part, number in enumerate(clip))


def test_drawn_frames_are_not_kept(tmp_path):
    found = DrawnClips(rows(tmp_path), "none", True, 1)
    for epoch in range(3):
        found.set_epoch(epoch)
        found[0]
    assert not list(tmp_path.rglob("*.npy"))


def test_all_frames_of_a_clip_are_mirrored_alike(tmp_path):
    found = DrawnClips(rows(tmp_path), "flip", False, 1)
    mirrored = set()
    for epoch in range(8):
        found.set_epoch(epoch)
        pixels = found[0]["pixel_values"]
        plain, turned = numbers(pixels), numbers(pixels.flip(-1))
        assert [1, 4, 7, 10] in (plain, turned)
        mirrored.add(turned == [1, 4, 7, 10])
    assert mirrored == {True, False}


def test_drawing_leaves_the_trainings_own_generator_alone(tmp_path):
    found = DrawnClips(rows(tmp_path), "flip", True, 1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    found[0]
    assert torch.equal(torch.rand(2), expected)


def test_a_broken_clip_is_named(tmp_path):
    found = rows(tmp_path)
    broken = found.dataset.map(lambda row: {"video": {"bytes": row["video"]["bytes"][:900], "path": None}})
    with pytest.raises(UserError, match="clip train:1 cannot be read as a video"):
        ClipRows(broken, AS_IS, Sampling(4), "frames", FrameCache(tmp_path, 0))[1]


def test_memory_does_not_grow_with_the_clips(tmp_path):
    """A clip's frames are gone once its row is: 60 clips of 20 MB of frames each, in far less."""
    import tracemalloc

    pictures = [np.zeros((480, 640, 3), dtype=np.uint8)] * 16
    content = clip(pictures=pictures)
    folder = tmp_path / "clips"
    folder.mkdir()
    paths = []
    for row in range(60):
        paths.append(folder / f"{row}.mkv")
        paths[-1].write_bytes(content)
    features = Features({"video": Video(decode=False), "label": Value("int64")})
    dataset = Dataset.from_dict({"video": list(map(str, paths)), "label": [0] * 60}, features)
    small = Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3, "nearest", 1.0, "squash")
    found = ClipRows(dataset, small, Sampling(16), "frames", FrameCache(tmp_path / "frames", 10**9))
    found[0]
    tracemalloc.start()
    for row in range(60):
        found[row]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 16 * 480 * 640 * 3


def test_views_are_other_frames_and_other_places(tmp_path):
    """Of frames twice as wide as the crop: at the left end, in the middle, at the right end."""
    square = Preprocessing((HEIGHT, HEIGHT), (0.0,) * 3, (1.0,) * 3, "nearest", 0.5, "center")
    found = replace(rows(tmp_path, sampling=Sampling(2, 1)), preprocessing=square)
    views = list(found.views(2, 3))
    assert [(view.sampling.view, view.crop) for view in views] == [
        (view, place) for view in (0, 1) for place in ("start", "middle", "end")
    ]
    shown = [view[1]["pixel_values"] for view in views]
    whole = [replace(found, preprocessing=AS_IS, sampling=view.sampling)[1]["pixel_values"] for view in views]
    for pixels, frames, left in zip(shown, whole, (0, 24, 48) * 2, strict=True):
        assert torch.equal(pixels, frames[:, :, :, left : left + HEIGHT])
    assert not torch.equal(whole[0], whole[3])
    (alone,) = found.views(1, 1)
    assert torch.equal(alone[1]["pixel_values"], found[1]["pixel_values"])
