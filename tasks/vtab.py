"""VTAB-1k: nineteen tasks of 1,000 training images each (Zhai et al., 2019), 800 to train on and 200 to choose by.

Which 1,000 is part of the benchmark, so a local copy must have the published selection. It is distributed as a folder
``vtab-1k`` with one folder per task (``cifar``, ``caltech101``, ... `FOLDERS`), each with its images and with the lists
``train800.txt``, ``val200.txt``, ``train800val200.txt`` and ``test.txt``; that folder goes below the data root as it
is. No copy on the hub with that selection could be verified.

Images are resized as a whole, as the published code for these lists does (`Resize((224, 224))`): where an object is in
the image is what some of the tasks ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.averages import Average
from parbench.tasks.data.labels import numbered
from parbench.tasks.data.source import DataRef
from parbench.tasks.kinds.image_classification import ImageClassification, ImageOptions

REFERENCE = Reference(
    "A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark",
    2019,
    "technical report",
    "1910.04867",
)

GROUPS: dict[str, tuple[str, ...]] = {
    "natural": ("caltech101", "cifar100", "dtd", "oxford_flowers102", "oxford_pets", "sun397", "svhn"),
    "specialized": ("diabetic_retinopathy", "eurosat", "patch_camelyon", "resisc45"),
    "structured": (
        "clevr_count",
        "clevr_distance",
        "dmlab",
        "dsprites_location",
        "dsprites_orientation",
        "kitti_distance",
        "smallnorb_azimuth",
        "smallnorb_elevation",
    ),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)

# The folders of the published copy that do not have the task's name.
FOLDERS = {
    "cifar100": "cifar",
    "oxford_pets": "oxford_iiit_pet",
    "clevr_distance": "clevr_dist",
    "dsprites_location": "dsprites_loc",
    "dsprites_orientation": "dsprites_ori",
    "kitti_distance": "kitti",
    "smallnorb_azimuth": "smallnorb_azi",
    "smallnorb_elevation": "smallnorb_ele",
}


class VtabOptions(ImageOptions):
    """Options of a VTAB-1k task."""

    fit: Literal["model", "squash", "crop"] = "squash"
    train: Literal["800", "1000"] = Field(
        default="800",
        description="images to train on. 1000 is for the last training, when everything is chosen: the 200 of the "
        "selection split are among them, and what is scored on it then means nothing",
    )


@dataclass(frozen=True, kw_only=True)
class VtabTask(ImageClassification):
    """One task of VTAB-1k."""

    options: VtabOptions = field(default_factory=VtabOptions)

    def configured(self, options: Mapping[str, Any]) -> Self:
        """Return the task under other options, with the training split that they name."""
        changed = super().configured(options)
        return replace(changed, data=_data(self.data.folder, changed.options.train))


def _data(folder: str, train: Literal["800", "1000"]) -> DataRef:
    split = {"800": "train800", "1000": "train800val200"}[train]
    return DataRef(folder, split, {"": "test"}, selection="val200")


def _task(name: str, classes: int) -> VtabTask:
    return VtabTask(
        name=f"vtab/{name}",
        reference=REFERENCE,
        data=_data(f"vtab-1k/{FOLDERS.get(name, name)}", "800"),
        labels=numbered(classes),
    )


CALTECH101 = _task("caltech101", 102)
CIFAR100 = _task("cifar100", 100)
DTD = _task("dtd", 47)
OXFORD_FLOWERS102 = _task("oxford_flowers102", 102)
OXFORD_PETS = _task("oxford_pets", 37)
SUN397 = _task("sun397", 397)
SVHN = _task("svhn", 10)
DIABETIC_RETINOPATHY = _task("diabetic_retinopathy", 5)
EUROSAT = _task("eurosat", 10)
PATCH_CAMELYON = _task("patch_camelyon", 2)
RESISC45 = _task("resisc45", 45)
CLEVR_COUNT = _task("clevr_count", 8)
CLEVR_DISTANCE = _task("clevr_distance", 6)
DMLAB = _task("dmlab", 6)
DSPRITES_LOCATION = _task("dsprites_location", 16)
DSPRITES_ORIENTATION = _task("dsprites_orientation", 16)
KITTI_DISTANCE = _task("kitti_distance", 4)
SMALLNORB_AZIMUTH = _task("smallnorb_azimuth", 18)
SMALLNORB_ELEVATION = _task("smallnorb_elevation", 9)


class VtabAverages(NamedTuple):
    """Both averages that are published under the name VTAB-1k; they differ by a point or more.

    Attributes:
        natural: mean over its seven tasks.
        specialized: mean over its four.
        structured: mean over its eight.
        over_tasks: mean over all nineteen, VTAB's own rule.
        over_groups: mean of the three group means, in which a specialized task weighs twice a structured one.
    """

    natural: float
    specialized: float
    structured: float
    over_tasks: float
    over_groups: float


def vtab_averages(scores: Mapping[str, float]) -> VtabAverages:
    """Return the averages of one score per task.

    Args:
        scores: by name, with or without ``vtab/``.

    Raises:
        UserError: a task is missing, or is none of VTAB's.
    """
    by_name = {name.removeprefix("vtab/"): score for name, score in scores.items()}
    wrong = sorted(by_name.keys() ^ set(NAMES))
    if wrong:
        what = "is not a task of VTAB-1k" if wrong[0] in by_name else "is missing"
        raise UserError(f"there is no average over VTAB-1k: {wrong[0]} {what}; give a score for each of the nineteen")
    means = {group: sum(by_name[name] for name in names) / len(names) for group, names in GROUPS.items()}
    return VtabAverages(
        **means, over_tasks=sum(by_name.values()) / len(by_name), over_groups=sum(means.values()) / len(means)
    )


def _over_groups(scores: Sequence[float]) -> float:
    return vtab_averages(dict(zip(NAMES, scores, strict=True))).over_groups


def _full(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"vtab/{name}" for name in names)


# "Average" in published tables is either of the last two.
AVERAGES = (
    *(Average(group, _full(names), fmean) for group, names in GROUPS.items()),
    Average(f"mean of {len(NAMES)} tasks", _full(NAMES), fmean),
    Average(f"mean of {len(GROUPS)} groups", _full(NAMES), _over_groups),
)
