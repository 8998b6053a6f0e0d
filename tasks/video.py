"""Action recognition in videos: HMDB51, UCF101 and Something-Something V2 from local copies, and moving digits.

The copies are as their publishers distribute them, in a folder of the task's own name (``hmdb51``) below the data root;
see `parbench.tasks.data.video.layouts`. None may be downloaded without its publishers' terms, so that no hub is named.

A clip is read once in evaluation, by its middle frames. Published scores are often means over several places in time
and crops, which are the options ``views`` and ``crops``. Video Swin's own (the configurations of
SwinTransformer/Video-Swin-Transformer, commit db018fb) are 32 frames two apart in 4 views of 3 crops on Kinetics-400,
and 32 frames over the whole clip in 3 crops on Something-Something V2. Settings are chosen by one view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from parbench.bench.util.reference import Reference
from parbench.tasks.data.labels import numbered
from parbench.tasks.data.source import DataRef, DataSource
from parbench.tasks.data.video.layouts import SELECTION, TEST, TRAIN, VALIDATION, Hmdb51, SomethingSomething2, Ucf101
from parbench.tasks.data.video.moving_digits import LABELS, MovingDigitsSource
from parbench.tasks.kinds.video_classification import TOP_5, VideoClassification, VideoOptions


class SplitOptions(VideoOptions):
    """Options of a data set with three published splits."""

    split: int = Field(default=1, ge=1, le=3, description="which of the publishers' three; scores are often their mean")


@dataclass(frozen=True, kw_only=True)
class SplitTask(VideoClassification):
    """A data set with three published splits, one of which is read."""

    published: type[Hmdb51 | Ucf101]
    options: SplitOptions = field(default_factory=SplitOptions)

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files below a root."""
        return self.published(root, self.options.split)


@dataclass(frozen=True, kw_only=True)
class SomethingTask(VideoClassification):
    """Something-Something V2."""

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files below a root."""
        return SomethingSomething2(root)


HMDB51 = SplitTask(
    name="video/hmdb51",
    reference=Reference("HMDB: A Large Video Database for Human Motion Recognition", 2011, "ICCV"),
    data=DataRef("hmdb51", TRAIN, {"": TEST}, selection=SELECTION),
    published=Hmdb51,
    labels=(
        *("brush_hair", "cartwheel", "catch", "chew", "clap", "climb", "climb_stairs", "dive", "draw_sword", "dribble"),
        *("drink", "eat", "fall_floor", "fencing", "flic_flac", "golf", "handstand", "hit", "hug", "jump", "kick"),
        *("kick_ball", "kiss", "laugh", "pick", "pour", "pullup", "punch", "push", "pushup", "ride_bike", "ride_horse"),
        *("run", "shake_hands", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "situp", "smile", "smoke"),
        *("somersault", "stand", "swing_baseball", "sword", "sword_exercise", "talk", "throw", "turn", "walk", "wave"),
    ),
)
UCF101 = SplitTask(
    name="video/ucf101",
    reference=Reference(
        "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", 2012, "CRCV-TR-12-01", "1212.0402"
    ),
    data=DataRef("ucf101", TRAIN, {"": TEST}, selection=SELECTION),
    published=Ucf101,
    labels=numbered(101),
)
# 174 things done to something, many of which only the order of the frames tells apart.
SSV2 = SomethingTask(
    name="video/ssv2",
    reference=Reference(
        'The "something something" video database for learning and evaluating visual common sense',
        2017,
        "ICCV",
        "1706.04261",
    ),
    data=DataRef("ssv2", TRAIN, {"": VALIDATION}),
    labels=numbered(174),
    metrics=("accuracy", TOP_5),
)
# Four frames in two rows of two, since the mean over frames could not tell a direction from the opposite one.
MOVING_DIGITS = VideoClassification(
    name="video/moving_digits",
    reference=Reference("Optical Recognition of Handwritten Digits", 1998, "UCI Machine Learning Repository"),
    data=DataRef("moving-digits", TRAIN, {"": "reported"}, selection=SELECTION, media="video"),
    labels=LABELS,
    metrics=("accuracy",),
    options=VideoOptions(frames=4, jitter=False, fusion="grid", fit="squash"),
    own_source=MovingDigitsSource(),
)
