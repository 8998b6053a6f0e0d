"""Frames of clips whose pixels tell their number, in several containers; and files that are no clips."""

import hashlib
import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from parbench.bench.util.errors import UserError
from parbench.tasks.data.video import decoding
from parbench.tasks.data.video.decoding import ClipFacts, check_header, encoded, facts, missing_decoder, read_frames
from tests.support.clips import HEIGHT, KINDS, WIDTH, clip, number_of, numbered_frame, sound, turned
from tests.support.pictures import WAV, picture
from tests.support.pictures import encoded as image_file


def frames_of(content, numbers):
    return read_frames(content, numbers, None, "clip train:0")


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_that_were_asked_for_are_read(kind):
    """With frames that are stored out of order, and others that were made from those before and after them."""
    content = clip(40, kind)
    assert facts(content, None, "it") == ClipFacts(40, HEIGHT, WIDTH)
    for numbers in ((0, 13, 26, 39), (7, 7, 8), (39,)):
        frames = frames_of(content, numbers)
        assert frames.shape == (len(numbers), HEIGHT, WIDTH, 3)
        assert frames.dtype == np.uint8
        assert [number_of(frame) for frame in frames] == list(numbers)


def test_pixels_without_loss_are_those_that_were_stored():
    pictures = [np.asarray(picture(32, 16, seed)) for seed in range(5)]
    assert np.array_equal(frames_of(clip(pictures=pictures), range(5)), np.stack(pictures))


def test_another_decoder_sees_the_same_frames():
    """Pillow's own decoder of GIF."""
    content = clip(20, "gif")
    seen = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content)))]
    assert np.array_equal(frames_of(content, range(20)), np.stack(seen))


def test_frames_are_counted_and_not_timed():
    content = clip(10, "mp4", times=[0, 1, 2, 10, 11, 12, 50, 51, 90, 91])
    assert facts(content, None, "it").frames == 10
    assert [number_of(frame) for frame in frames_of(content, range(10))] == list(range(10))


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_turned_clip_is_read_as_it_is_shown(quarters):
    pictures = [np.zeros((32, 64, 3), dtype=np.uint8) for _ in range(3)]
    for one in pictures:
        one[:16, :16] = 255  # the top left
    content = turned(clip(kind="mp4", pictures=pictures), quarters)
    found = facts(content, None, "it")
    frame = frames_of(content, [1])[0]
    assert (found.height, found.width) == frame.shape[:2] == ((32, 64), (64, 32))[quarters % 2]
    # Turned against the clock, the top left comes to the bottom left, the bottom right and the top right.
    bright = frame[:, :, 0] > 127
    corners = {(0, 0): bright[0, 0], (1, 0): bright[-1, 0], (1, 1): bright[-1, -1], (0, 1): bright[0, -1]}
    assert [corner for corner, is_bright in corners.items() if is_bright] == [
        [(0, 0), (1, 0), (1, 1), (0, 1)][quarters]
    ]


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
LIST = b"ffconcat version 1.0\nfile /etc/hostname\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello\n" * 100, "is none of"),
        (PLAYLIST, "is none of"),
        (LIST, "is none of"),
        (WAV, "is none of"),
        (image_file(picture()), "is none of"),
        (sound(), "no moving pictures"),
        (clip(40, "mp4")[:1500], "cut off"),
        (clip(40, "avi")[:6500], "cut off"),
        (clip(40, "mkv")[:3000], "cut off"),
    ],
    ids=["text", "playlist", "list", "wav", "png", "sound", "mp4", "avi", "mkv"],
)
def test_what_is_no_clip_is_refused_in_a_sentence(content, reason, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    place = {"path": str(path)}
    with pytest.raises(UserError, match=reason) as caught:
        facts(encoded(place, "clip train:3"), place, "clip train:3")
    assert str(caught.value).startswith(f'clip train:3 ("{path}") cannot be read as a video: ')
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_read_or_refused(kind, seed):
    """Never another error, and never other frames than those of the file's own count."""
    content = bytearray(clip(20, kind))
    draw = np.random.default_rng(seed)
    for place in draw.integers(len(content), size=20):
        content[place] = draw.integers(256)
    try:
        found = facts(bytes(content), None, "it")
    except UserError:  # pytest would show any other
        with pytest.raises(UserError, match="cannot be read as a video"):
            facts(bytes(content), None, "it")
        return
    assert frames_of(bytes(content), [found.frames - 1]).shape[1:3] == (found.height, found.width)


def test_missing_and_empty_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    for place, reason in (
        ({"path": str(tmp_path / "empty.mp4")}, "it is empty"),
        ({"path": str(tmp_path / "none.mp4")}, "no such file"),
        ({"path": str(tmp_path)}, "no such file"),
        ({"path": None, "bytes": b""}, "neither the bytes nor the path"),
        (None, "neither the bytes nor the path"),
    ):
        with pytest.raises(UserError, match=reason):
            check_header(place, "row 2 of the train split")


def test_large_pictures_and_long_clips_are_refused(monkeypatch):
    content = clip(12)
    monkeypatch.setattr(decoding, "MOST_PIXELS_OF_ALL", 11 * WIDTH * HEIGHT)
    with pytest.raises(UserError, match="more than 11 frames of 64 x 16 pixels"):
        facts(content, None, "it")
    monkeypatch.setattr(decoding, "MOST_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(UserError, match="64 x 16 pixels"):
        check_header({"bytes": content}, "it")


def test_large_files_are_not_even_read(tmp_path, monkeypatch):
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(decoding, "MOST_BYTES", 99)
    with pytest.raises(UserError, match="100 bytes"):
        encoded({"path": str(path)}, "it")


def test_a_frame_that_is_not_there():
    with pytest.raises(UserError, match="has no frame 12"):
        frames_of(clip(12), [3, 12])


def test_without_a_decoder_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert "parbench[video]" in missing_decoder()
    with pytest.raises(UserError, match=r"parbench\[video\]"):
        frames_of(clip_without_decoder, [0])


clip_without_decoder = clip(2)


def test_the_same_clip_is_the_same_file():
    """Frames are kept by the hash of the file."""
    assert len({hashlib.sha256(clip(5, "avi")).hexdigest() for _ in range(2)}) == 1
    assert number_of(numbered_frame(77)) == 77
