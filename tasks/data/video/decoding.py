"""Decodes video files with PyAV, which is FFmpeg's libraries.

The rules, the same for every file:

* Frames are numbered in the order in which they are shown, and are not timed: one that is shown for long counts once.
* A picture that is to be shown turned by a quarter is turned; pixels that are not square stay as they are stored.
* Of several streams of pictures the first is read that is no cover. Sound is ignored.
* A file of a kind other than `FORMATS` is refused, playlists and lists of other files among them: a file is read by
  itself. So is one with an error in it, and one with less than `LEAST_SHARE` of what its header announces.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    import numpy as np

# FFmpeg's names of the containers that are read, by their usual names.
FORMATS = {
    "MP4": "mov,mp4",
    "Matroska or WebM": "matroska,webm",
    "AVI": "avi",
    "MPEG": "mpeg,mpegts",
    "Ogg": "ogg",
    "Windows Media": "asf",
    "Flash": "flv",
    "GIF": "gif",
}
# A small file can claim to have any number of any size of pictures.
MOST_BYTES = 2**30
MOST_PIXELS = 4096 * 2304
MOST_PIXELS_OF_ALL = 20_000_000_000
MOST_SECONDS = 100_000
# Headers of AVI files count packets, and some have one more of those than pictures.
LEAST_SHARE = 0.9

_NOTHING = "the row has neither the bytes nor the path of a file"
_OPTIONS = {"format_whitelist": ",".join(FORMATS.values()), "protocol_whitelist": "none"}


@dataclass(frozen=True)
class ClipFacts:
    """What is known of a clip once it was decoded.

    Attributes:
        frames: how many it has.
        height: of its pictures as they are shown, in pixels.
        width: likewise.
    """

    frames: int
    height: int
    width: int


def missing_decoder() -> str | None:
    """Return what to install where videos cannot be decoded, or ``None`` where they can."""
    try:
        import av  # noqa: F401
    except ImportError:
        return 'videos are decoded by PyAV; install it with: pip install "parbench[video]"'
    return None


def require_decoder() -> Any:
    """Return PyAV.

    Raises:
        UserError: it is not installed.
    """
    if lacking := missing_decoder():
        raise UserError(lacking)
    import av

    return av


def decoder_version() -> str:
    """Return the version of the decoder.

    Raises:
        UserError: there is none.
    """
    return str(require_decoder().__version__)


def encoded(clip: Mapping[str, Any] | None, name: str) -> bytes:
    """Return the bytes of a video file.

    Args:
        clip: its ``bytes``, or its ``path``.
        name: its name in an error.

    Raises:
        UserError: it is missing, empty or too large.
    """
    with _explained(clip, name), _file(clip) as file:
        return file.read()


def check_header(clip: Mapping[str, Any] | None, name: str) -> None:
    """Read the header of a file, and no more of it: no picture is decoded.

    Raises:
        UserError: it is no video of a known kind, or its pictures are too large.
    """
    with _explained(clip, name), _file(clip) as file, _opened(file):
        pass


def facts(content: bytes, clip: Mapping[str, Any] | None, name: str) -> ClipFacts:
    """Decode a whole clip to count its frames; none is kept.

    Args:
        content: the file.
        clip: where it is from, for an error.
        name: its name in an error.

    Raises:
        UserError: it cannot be decoded, is cut off, changes its size, or is too large.
    """
    with _explained(clip, name), _opened(io.BytesIO(content)) as (container, stream):
        count, first, last = 0, None, None
        for last in _frames(container, stream):
            first = first or last
            count += 1
            if count * last.width * last.height > MOST_PIXELS_OF_ALL:
                raise ValueError(f"it has more than {count - 1:,} frames of {last.width} x {last.height} pixels")
        if first is None:
            raise ValueError("it has no pictures")
        _check_whole(container, stream, count, last)
        turned = _quarter_turns(first) % 2
        return ClipFacts(count, *((first.width, first.height) if turned else (first.height, first.width)))


def read_frames(content: bytes, numbers: Sequence[int], clip: Mapping[str, Any] | None, name: str) -> np.ndarray:
    """Return frames of a clip as they are shown, uint8 of shape (frames, height, width, 3) in RGB.

    Args:
        content: the file.
        numbers: of the frames, see `parbench.tasks.data.video.sampling.Sampling`; some may be the same.
        clip: where it is from, for an error.
        name: its name in an error.

    Raises:
        UserError: it cannot be decoded as far as these frames.
    """
    import numpy as np

    wanted, found = set(numbers), {}
    with _explained(clip, name), _opened(io.BytesIO(content)) as (container, stream):
        # One for all frames: making it costs more than a small frame does.
        colours = require_decoder().video.reformatter.VideoReformatter()
        for number, frame in enumerate(_frames(container, stream)):
            if number in wanted:
                pixels = colours.reformat(frame, format="rgb24").to_ndarray()
                found[number] = np.rot90(pixels, _quarter_turns(frame))
                if len(found) == len(wanted):
                    break
        else:
            raise ValueError(f"it has no frame {max(wanted - set(found))}")
        return np.stack([found[number] for number in numbers])


def frames_every(content: bytes, seconds: float, clip: Mapping[str, Any] | None, name: str) -> Iterator[np.ndarray]:
    """Yield the frame that is shown in the middle of each so many seconds, uint8 of shape (height, width, 3) in RGB.

    Other than elsewhere, time counts: a frame that is shown for long is there several times. Of a clip of less than
    half a segment there is the last frame.

    Args:
        content: the file.
        seconds: of a segment.
        clip: where it is from, for an error.
        name: its name in an error.

    Raises:
        UserError: it cannot be decoded, or a frame has no time.
    """
    import numpy as np

    def pixels(frame: Any) -> np.ndarray:
        return np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))

    with _explained(clip, name), _opened(io.BytesIO(content)) as (container, stream):
        start, shown, last = 0.0, 0, None
        for frame in _frames(container, stream):
            if frame.pts is None:
                raise ValueError("a picture in it has no time")
            time = float(frame.pts * frame.time_base)
            start = time if last is None else start
            if time - start > MOST_SECONDS:
                raise ValueError(f"it lasts for more than {MOST_SECONDS:,} seconds")
            while last is not None and (shown + 0.5) * seconds < time - start:
                yield pixels(last)
                shown += 1
            last = frame
        if last is None:
            raise ValueError("it has no pictures")
        end = float((last.pts + (last.duration or 0)) * last.time_base) - start
        while shown == 0 or (shown + 0.5) * seconds < end:
            yield pixels(last)
            shown += 1


@contextmanager
def _file(clip: Mapping[str, Any] | None) -> Iterator[IO[bytes]]:
    """Yield a video file.

    Raises:
        ValueError: it is missing, empty or too large.
    """
    if not clip or (not clip.get("bytes") and not clip.get("path")):
        raise ValueError(_NOTHING)
    if clip.get("bytes"):
        yield io.BytesIO(clip["bytes"])
        return
    path = Path(clip["path"])
    if not path.is_file():
        raise ValueError("there is no such file")
    size = path.stat().st_size
    if not size:
        raise ValueError("it is empty")
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, and more than {MOST_BYTES:,} are not read")
    with path.open("rb") as file:
        yield file


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    """Yield a container and its stream of pictures.

    Raises:
        ValueError: it is of no known kind, or has no such stream.
    """
    av = require_decoder()
    try:
        container = av.open(file, options=_OPTIONS)
    except av.FFmpegError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}, or is damaged or cut off") from error
    with container:
        cover = av.stream.Disposition.attached_pic
        stream = next((one for one in container.streams.video if not one.disposition & cover), None)
        if stream is None:
            raise ValueError("it has no moving pictures, or is cut off before it describes them")
        context = stream.codec_context
        if context is None:
            raise ValueError("its pictures are compressed in a way that the decoder does not know")
        _check_size(context.width, context.height)
        # The processes that read data are several, and clips are small.
        context.thread_count = 1
        yield container, stream


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of a stream, all of one size.

    Raises:
        ValueError: one has another size than the first.
    """
    size = None
    for frame in container.decode(stream):
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            raise ValueError(f"its pictures change from {size[0]} x {size[1]} to {frame.width} x {frame.height} pixels")
        _check_size(*size)
        yield frame


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, and more than {MOST_PIXELS:,} are not decoded")


def _check_whole(container: Any, stream: Any, count: int, last: Any) -> None:
    """Check a clip that was decoded to its end against its header.

    Raises:
        ValueError: it has too few frames, or too little time where the header announces time only.
    """
    if stream.frames:
        if count < LEAST_SHARE * stream.frames:
            raise ValueError(f"it is cut off: of the {stream.frames} frames that it announces {count} can be decoded")
    elif container.duration and len(container.streams) == 1 and last.pts is not None:
        announced = container.duration / 1e6
        end = float((last.pts + (last.duration or 0)) * last.time_base)
        if end < LEAST_SHARE * announced:
            raise ValueError(f"it is cut off: of the {announced:.2f} s that it announces {end:.2f} can be decoded")


def _quarter_turns(frame: Any) -> int:
    """Return by how many quarters a frame is to be turned, against the clock.

    Raises:
        ValueError: it is to be turned by another angle.
    """
    turns, rest = divmod(round(frame.rotation), 90)
    if rest:
        raise ValueError(f"it is to be shown turned by {frame.rotation} degrees; only quarters are known")
    return turns % 4


@contextmanager
def _explained(clip: Mapping[str, Any] | None, name: str) -> Iterator[None]:
    """Turn what goes wrong with a file into one sentence that names it."""
    # PyAV's own errors are of one class; some are also of the built-in class of their kind.
    failures: tuple[type[Exception], ...] = (ValueError, OSError, *_decoder_errors())
    try:
        yield
    except failures as error:
        if isinstance(error, UserError):
            raise
        path = clip.get("path") if clip else None
        called = f'{name} ("{path}")' if path else name
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{called} cannot be read as a video: {reason}; replace or remove it") from error


def _decoder_errors() -> tuple[type[Exception], ...]:
    return () if missing_decoder() else (require_decoder().FFmpegError,)
