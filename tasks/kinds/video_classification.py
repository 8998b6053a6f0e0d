"""Classification of videos.

The model is one of transformers' for videos, Video Swin, or any model of images. The last sees frame by frame, and the
logits of a clip are the mean of its frames': it cannot tell in which order they come. Or it sees them side by side in
one picture (option ``fusion=grid``; Fan et al., 2021, arXiv 2106.14104), and then the order by their places.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
from pydantic import Field
from scipy.special import log_softmax, logsumexp

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Evaluation, Head, Modality
from parbench.tasks.data.preprocessing import Preprocessing
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.video.clip_processor import ClipProcessor
from parbench.tasks.data.video.clip_rows import ClipRows, DrawnClips, grid_side
from parbench.tasks.data.video.columns import checked_videos
from parbench.tasks.data.video.decoding import missing_decoder
from parbench.tasks.data.video.frame_cache import FrameCache
from parbench.tasks.data.video.sampling import Sampling
from parbench.tasks.data.video.strip import strip
from parbench.tasks.kinds.image_classification import ImageOptions
from parbench.tasks.kinds.visual_classification import VisualClassification
from parbench.tasks.metrics.units import FRACTION, Unit

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

TOP_5 = "top5_accuracy"
# Of so many examples the per-example rows have a picture: as many as a report shows.
PICTURED = 12
# What a model of images is given of a clip unless the user says otherwise.
USUAL_FRAMES = 8


class VideoOptions(ImageOptions):
    """What may be set of how clips are read: which frames, see `parbench.tasks.data.video.sampling`, and each frame."""

    for_a_model: ClassVar[frozenset[str]] = ImageOptions.for_a_model | {"frames"}

    frames: int | None = Field(
        default=None, ge=1, le=256, description=f"of a clip; the model's own number, or {USUAL_FRAMES}, if not given"
    )
    stride: int | None = Field(
        default=None, ge=1, le=1000, description="from one frame to the next; spread over the clip if not given"
    )
    jitter: bool = Field(
        default=True, description="in training, draw which frames anew in each epoch; evaluation takes the middle"
    )
    fusion: Literal["average", "grid"] = Field(
        default="average",
        description="how a model of images sees a clip: one frame at a time, averaging the logits, blind to their "
        "order (average), or all of them side by side in a picture of image_size (grid)",
    )
    views: int = Field(
        default=1,
        ge=1,
        le=100,
        description="of each reported clip at even distances in time, whose class probabilities are averaged",
    )
    crops: Literal[1, 3] = Field(
        default=1,
        description="of each view: the model's own, or three along the longer side of frames whose shorter side is "
        "resized to image_size",
    )


@dataclass(frozen=True, kw_only=True)
class VideoClassification(VisualClassification):
    """A task over videos with one label each.

    Labels are class names or numbers; see `parbench.tasks.data.labels.class_ids`.

    Attributes:
        labels: class names in the order of their ids; see `parbench.tasks.data.labels.numbered`.
        video_columns: names that the column of videos may have.
        label_columns: names that the column of labels may have.
        metrics: names of the metrics, the primary one first.
    """

    name: str
    reference: Reference
    data: DataRef
    video_columns: tuple[str, ...] = ("video",)
    options: VideoOptions = field(default_factory=VideoOptions)
    own_source: DataSource | None = None
    modality = Modality.VIDEO
    units: ClassVar[dict[str, Unit]] = {TOP_5: FRACTION}

    @property
    def head(self) -> Head:  # type: ignore[override]
        """A video-classification head with one output per class."""
        return Head("AutoModelForVideoClassification", self.labels)

    @property
    def reads(self) -> Reads:
        """The video and the label, by the names that either may have."""
        return Reads(others=(self.video_columns, self.label_columns))

    def missing(self, source: DataSource) -> str | None:
        """Return what the source lacks, or that nothing decodes videos."""
        return missing_decoder() or super().missing(source)

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns ``video``, not decoded, and ``label``; of every video the header is read."""
        where = f"the {split} split of {self.name}"
        video, ids = self.labelled(dataset, self.video_columns, "videos", where)
        return checked_videos(dataset.select_columns(video), video, where).add_column("label", ids)

    def prepare(self, dataset: Dataset, processor: ClipProcessor, max_length: int) -> ClipRows:
        """Return rows that are decoded one by one, on access.

        Raises:
            UserError: the model takes another number of frames, or a grid of them has no whole number of pixels.
        """
        options = self.options
        frames = options.frames or processor.frames or USUAL_FRAMES
        check_frames(frames, processor)
        grid = options.fusion == "grid" and processor.frames is None
        pixels = Preprocessing.of(processor.image).changed(options.image_size, options.interpolation, options.fit)
        return ClipRows(
            dataset,
            pixels.divided(grid_side(frames)) if grid else pixels,
            Sampling(frames, options.stride),
            "grid" if grid else "frames",
            FrameCache.usual(),
        )

    def augmented(self, inputs: Rows, seed: int) -> Rows:
        """Return the rows under the options ``jitter`` and ``augmentation``."""
        options = self.options
        if options.augmentation == "none" and not options.jitter:
            return inputs
        return DrawnClips(cast(ClipRows, inputs), options.augmentation, options.jitter, seed)

    @property
    def selected_by(self) -> Evaluation:
        """By one view: what is reported once may cost more than what is scored for every epoch and trial."""
        single = {"views": 1, "crops": 1}
        return replace(self, options=self.options.model_copy(update=single))

    def logits(self, predictor: Predictor, inputs: Rows) -> np.ndarray:
        """Return the outputs for prepared rows; of several views the logarithm of their mean probabilities."""
        options = self.options
        if options.views * options.crops == 1 or not isinstance(inputs, ClipRows):
            return predictor.logits(inputs)
        seen = [predictor.logits(rows) for rows in inputs.views(options.views, options.crops)]
        return np.asarray(logsumexp([log_softmax(one, axis=1) for one in seen], axis=0) - np.log(len(seen)))

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example: class ids in ``label`` and ``prediction``, the ``logits``, and `TOP_5`.

        The first ones have a ``picture`` of their frames, a small JPEG.
        """
        rows = super().predict(predictor, examples, inputs)
        if isinstance(inputs, ClipRows):
            pictures = list(inputs.each(range(min(PICTURED, len(inputs))), strip))
            rows["picture"] = [*pictures, *[None] * (len(rows) - len(pictures))]
        if TOP_5 in self.metrics:
            logits, labels = np.stack(rows["logits"].tolist()), rows["label"].to_numpy()
            own = logits[np.arange(len(labels)), labels]
            # Of equal logits the one of the smaller class id counts as larger, as it does in the prediction.
            equal_before = (logits == own[:, None]) & (np.arange(logits.shape[1]) < labels[:, None])
            rows[TOP_5] = ((logits > own[:, None]) | equal_before).sum(axis=1) < 5
        return rows


def check_frames(frames: int, processor: ClipProcessor) -> None:
    """Check that a model takes so many frames.

    Raises:
        UserError: it does not.
    """
    if processor.fixed and frames != processor.frames:
        raise UserError(f"frames is {frames}, and the model takes {processor.frames} frames only; leave frames out")
