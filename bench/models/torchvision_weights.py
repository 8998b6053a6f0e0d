"""Weights of Video Swin that torchvision's authors publish, as a folder in transformers' format."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.error import URLError

import torch
from transformers import VideoMAEImageProcessorPil

from parbench.bench.models.configs import Shape
from parbench.bench.models.video_swin import VideoSwinConfig, VideoSwinForVideoClassification
from parbench.bench.models.weights import Weights
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package import cache_folder

# How these weights' publishers prepare clips; see the ``transforms`` of torchvision's ``Swin3D_T_Weights``.
_MEAN, _STD, _RESIZED, _CROPPED = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 256, 224


@dataclass(frozen=True)
class VideoSwinWeights(Weights):
    """A checkpoint of torchvision, converted at its first use.

    Attributes:
        url: of the file; the name ends with the first digits of its SHA-256.
        shape: its architecture.
        labels: classes of its head.
    """

    url: str
    shape: Shape
    labels: int = 400

    def revision(self, lock: RevisionLock) -> str:
        """Return the file's name, which has the beginning of its hash."""
        return self._file

    def location(self) -> str:
        """Return the folder of the converted model.

        Raises:
            UserError: it cannot be downloaded, or is not the expected file.
        """
        target = cache_folder() / "converted" / f"torchvision-{Path(self._file).stem}"
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch:
                fresh = Path(scratch) / "fresh"
                self._convert(self._download(Path(scratch)), fresh)
                # Another process may have finished the same conversion first; its folder is identical.
                if not target.is_dir():
                    os.replace(fresh, target)
        return str(target)

    @property
    def _file(self) -> str:
        return self.url.rpartition("/")[2]

    def _download(self, folder: Path) -> Path:
        path = folder / self._file
        try:
            torch.hub.download_url_to_file(self.url, str(path), progress=False)
        except (URLError, OSError) as error:
            raise UserError(
                f"torchvision's weights cannot be downloaded from {self.url} ({getattr(error, 'reason', error)}); "
                "connect to the network, or give another --model"
            ) from error
        found = re.search(r"-([0-9a-f]{8,})\.", self._file)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if found is None or not digest.startswith(found.group(1)):
            raise UserError(f"what was downloaded from {self.url} is not the file of that name; refusing to use it")
        return path

    def _convert(self, path: Path, folder: Path) -> None:
        model = VideoSwinForVideoClassification(cast(VideoSwinConfig, self.shape.config(num_labels=self.labels)))
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            model.swin.load_state_dict(state)
        except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"the file from {self.url} does not hold the expected weights ({reason})") from error
        model.save_pretrained(folder)
        processor = VideoMAEImageProcessorPil(
            image_mean=_MEAN,
            image_std=_STD,
            size={"shortest_edge": _RESIZED},
            crop_size={"height": _CROPPED, "width": _CROPPED},
        )
        processor.save_pretrained(folder)
