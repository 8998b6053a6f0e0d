"""Video files for tests, made on the spot: the pixels of each frame tell its number."""

import io
import struct

import av
import numpy as np

BITS, BAR, HEIGHT = 8, 8, 16
WIDTH = BITS * BAR
# Containers with codecs, pixel formats and options; of those that lose something, the bars are wide enough.
KINDS = {
    "mp4": ("mp4", "libx264", "yuv420p", {"crf": "18", "bf": "3", "g": "50"}),
    "avi": ("avi", "mpeg4", "yuv420p", {"bf": "2", "b": "2000000"}),
    "webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "10", "b": "0"}),
    "mkv": ("matroska", "ffv1", "bgr0", {}),
    "gif": ("gif", "gif", "rgb8", {}),
}


def numbered_frame(number, width=WIDTH, height=HEIGHT):
    """Return a frame, uint8 of shape (height, width, 3): a black or white bar for each bit, the lowest on the left."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    row = np.repeat(np.array(bits, dtype=np.uint8), width // BITS)
    return np.repeat(np.broadcast_to(row, (height, len(row)))[:, :, None], 3, axis=2).copy()


def number_of(frame):
    """Return the number of a frame as it was decoded: (height, width, 3)."""
    bars = np.asarray(frame, dtype=float).mean(axis=(0, 2)).reshape(BITS, -1)
    return sum(1 << bit for bit, bar in enumerate(bars) if bar[2:-2].mean() > 127)


def clip(frames=12, kind="mkv", times=None, pictures=None, rate=10):
    """Return a video file.

    Args:
        frames: how many.
        kind: of `KINDS`.
        times: when each is shown, in parts of a second of ``rate``.
        pictures: the frames, in place of numbered ones; all of one size.
        rate: frames per second.
    """
    container_format, codec, pixels, options = KINDS[kind]
    pictures = [numbered_frame(number) for number in range(frames)] if pictures is None else pictures
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = pixels, options
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts = times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def turned(content, quarters):
    """Return an MP4 file with the mark that it is to be shown turned, by quarters against the clock."""
    cosine, sine = [(1, 0), (0, -1), (-1, 0), (0, 1)][quarters % 4]
    matrix = struct.pack(">9i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    track = content.index(b"tkhd")
    place = content.index(upright, track)
    return content[:place] + matrix + content[place + len(matrix) :]


def sound(container_format="mp4"):
    """Return a file of a second of silence."""
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
