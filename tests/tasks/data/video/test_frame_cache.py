"""Decoded frames on the disk."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.video import frame_cache
from parbench.tasks.data.video.decoding import ClipFacts
from parbench.tasks.data.video.frame_cache import SIZE_VARIABLE, FrameCache

ONE, OTHER = (hashlib.sha256(name).hexdigest() for name in (b"one", b"other"))
PIXELS = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)


class Counted:
    """A function that counts its calls."""

    def __init__(self, result):
        self.calls, self.result = 0, result

    def __call__(self):
        self.calls += 1
        return self.result


@pytest.fixture
def cache(tmp_path):
    return FrameCache(tmp_path / "frames", 10**6)


def test_a_clip_is_decoded_once(cache, tmp_path):
    read = Counted(PIXELS)
    for again in (cache, cache, FrameCache(tmp_path / "frames", 10**6)):
        assert np.array_equal(again.frames(ONE, (0, 3), read), PIXELS)
    assert read.calls == 1


def test_other_frames_and_other_files_are_others(cache):
    read = Counted(PIXELS)
    for digest, numbers in ((ONE, (0, 3)), (ONE, (0, 4)), (OTHER, (0, 3))):
        cache.frames(digest, numbers, read)
    assert read.calls == 3


def test_facts_are_found_once(cache):
    find = Counted(ClipFacts(7, 3, 4))
    assert [cache.facts(ONE, find) for _ in range(3)] == [ClipFacts(7, 3, 4)] * 3
    assert find.calls == 1


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"{}", b"null"])
def test_a_damaged_file_is_written_again(cache, tmp_path, damage):
    cache.frames(ONE, (0,), lambda: PIXELS)
    cache.facts(ONE, lambda: ClipFacts(7, 3, 4))
    for path in (tmp_path / "frames").glob("*/*"):
        path.write_bytes(damage)
    read, find = Counted(PIXELS), Counted(ClipFacts(7, 3, 4))
    for _ in range(2):
        assert np.array_equal(cache.frames(ONE, (0,), read), PIXELS)
        assert cache.facts(ONE, find).frames == 7
    assert (read.calls, find.calls) == (1, 1)


def test_what_was_used_longest_ago_goes_first(tmp_path):
    size = 128 + PIXELS.nbytes  # NumPy's header and the pixels
    cache = FrameCache(tmp_path, 3 * size)
    for number in range(3):
        cache.frames(ONE, (number,), lambda: PIXELS)
    assert len(list(tmp_path.glob("*/*"))) == 3
    for age, path in enumerate(sorted(tmp_path.glob("*/*"))):
        os.utime(path, (age, age))
    oldest, *_, newest = sorted(tmp_path.glob("*/*"))
    cache.frames(OTHER, (0,), lambda: PIXELS)
    left = list(tmp_path.glob("*/*"))
    assert sum(path.stat().st_size for path in left) <= 0.8 * 3 * size
    assert newest in left
    assert oldest not in left


def test_the_folder_is_measured_once_and_not_for_each_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path))
    measured = []
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: measured.append(path) or glob(path, pattern))
    for number in range(5):
        FrameCache.usual().frames(ONE, (number,), lambda: PIXELS)
    assert len(measured) == 1


def test_nothing_is_kept_where_the_limit_is_zero(tmp_path):
    read = Counted(PIXELS)
    for _ in range(2):
        FrameCache(tmp_path / "frames", 0).frames(ONE, (0,), read)
    assert read.calls == 2
    assert not (tmp_path / "frames").exists()


def test_a_disk_that_cannot_be_written_is_told_once(tmp_path):
    (tmp_path / "frames").write_text("a file where the folder should be")
    cache = FrameCache(tmp_path / "frames", 10**6)
    with pytest.warns(UserWarning, match="cannot be kept") as warned:
        found = [cache.frames(ONE, (number,), lambda: PIXELS) for number in range(3)]
    assert len(warned) == 1
    assert all(np.array_equal(pixels, PIXELS) for pixels in found)


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_wrong_limit_is_refused(monkeypatch, text):
    monkeypatch.setenv(SIZE_VARIABLE, text)
    with pytest.raises(UserError, match=SIZE_VARIABLE):
        FrameCache.usual()


def test_the_users_cache_is_apart_for_each_decoder(monkeypatch, tmp_path):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(frame_cache, "decoder_version", lambda: "99.1")
    FrameCache.usual().facts(ONE, lambda: ClipFacts(7, 3, 4))
    (path,) = tmp_path.rglob("*.json")
    assert path.parent.parent == tmp_path / "frames" / "pyav-99.1"
