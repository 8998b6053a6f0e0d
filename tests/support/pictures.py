"""Image files for tests, made on the spot."""

import io
import struct
import zlib

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pil


def encoded(image, kind="PNG", **options):
    """Return a PIL image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(width=12, height=9, seed=0):
    """Return random pixels in RGB."""
    return Pil.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width, height):
    """Return a PNG of a few bytes that claims to be of any size."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    data = b"IDAT" + zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def images(labels, names=None, column="image", label="label", files=None):
    """Return a dataset as the hub gives it, of the given files or of random pictures."""
    kind = ClassLabel(names=names) if names else Value("int64")
    files = files or [encoded(picture(seed=row)) for row in range(len(labels))]
    rows = {column: [{"bytes": file, "path": None} for file in files], label: labels}
    return Dataset.from_dict(rows, Features({column: Image(), label: kind}))


# A file of sound: what it is called does not make it an image.
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00" + bytes(24)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n"
