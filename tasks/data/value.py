"""Videos with subtitles in the files of the VALUE benchmark (Li et al., 2021, arXiv 2106.04632), as they are published.

Below the data set's folder are ``ann/``, with the subtitles of a domain in ``DOMAIN_subtitles.jsonl`` and the questions
or captions of a task in ``TASK/``, and ``vis_features/DOMAIN/clip-vit/VIDEO.npz``, a feature of CLIP ViT-B/32 for each
1.5 seconds. Test splits are hidden, so that the validation splits are reported, and of the training split a tenth is
set apart to choose hyper-parameters on, by whole recordings: episodes, or videos that clips were cut out of.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from parbench.bench.util.file_errors import reading
from parbench.tasks.data.layouts import PublishedFiles, field, image_file, read_json_lines
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.split import SELECTION_MOST, SELECTION_SHARE
from parbench.tasks.data.text_files import unreadable

TRAIN, SELECTION, VALIDATION = "train", "selection", "val"
FEATURES = "clip-vit"
# Seconds of a segment.
SEGMENT = 1.5


@dataclass(frozen=True)
class ValueFiles(PublishedFiles):
    """One task of the benchmark.

    Attributes:
        domain: what its videos are: ``tv``, ``how2`` or ``yc2``.
        annotations: by split, the file.
        identity: the field that identifies an entry of a file.
    """

    domain: ClassVar[str]
    annotations: ClassVar[Mapping[str, str]]
    identity: ClassVar[str]

    @abstractmethod
    def entry_rows(self, entry: Any, split: str, path: Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of an entry, without its video's features and subtitles.

        Raises:
            UserError: it is not of the publishers' form.
        """

    @staticmethod
    @abstractmethod
    def recording(video: str) -> str:
        """Return what a video was cut out of, by its name."""

    def lacking(self, folder: Path) -> str | None:
        """Return which file or folder is not there."""
        if lacking := super().lacking(folder):
            return lacking
        place = self._features(folder)
        if place.is_dir():
            return None
        return (
            f'there is no folder "{place}" with features of the videos (get the publishers\', or compute them once, in '
            "Python: parbench.bench.models.video_features.compute(videos, folder))"
        )

    def revision(self, data: DataRef) -> str:
        """Return the hash of the annotations and of all features that they name.

        Raises:
            UserError: a file is not there or cannot be read.
        """
        folder = self._folder(data)
        total = hashlib.sha256(super().revision(data).encode())
        named = {row["features"] for rows in self.rows(folder).values() for row in rows}
        for path in map(Path, sorted(named)):
            with reading(path), path.open("rb") as file:
                total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def rows(self, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
        """Return ``features``, the path of a file, ``subtitles``, ``video``, and the columns of `entry_rows`."""
        spoken = _subtitles(folder / f"ann/{self.domain}_subtitles.jsonl")
        found = {
            split: [
                row
                for entry in self._entries(folder / name)
                for row in self._complete(entry, split, folder, folder / name, spoken)
            ]
            for split, name in self.annotations.items()
        }
        apart = _set_apart([self.recording(row["video"]) for row in found[TRAIN]])
        train = found[TRAIN]
        return {
            TRAIN: [row for row in train if self.recording(row["video"]) not in apart],
            SELECTION: [row for row in train if self.recording(row["video"]) in apart],
            VALIDATION: found[VALIDATION],
        }

    def _entries(self, path: Path) -> list[Any]:
        entries, known = read_json_lines(path), set()
        for entry in entries:
            identity = field(entry, self.identity, int, path)
            if identity in known:
                raise unreadable(path, f"two entries have the {self.identity} {identity}")
            known.add(identity)
        return entries

    def _complete(
        self, entry: Any, split: str, folder: Path, path: Path, spoken: Mapping[str, str]
    ) -> Iterator[dict[str, Any]]:
        video = field(entry, "vid_name", str, path)
        place = self._features(folder).relative_to(folder).as_posix()
        features = image_file(folder, f"{video}.npz", (place,), "file of features")
        if video not in spoken:
            raise unreadable(path, f'the subtitles have no entry for the video "{video}", not even an empty one')
        for row in self.entry_rows(entry, split, path):
            yield {"features": features, "subtitles": spoken[video], "video": video, **row}

    def _features(self, folder: Path) -> Path:
        return folder / "vis_features" / self.domain / FEATURES


class _OfTelevision:
    """Of the names of clips of television: what is before the number of the segment is the episode."""

    domain = "tv"

    @staticmethod
    def recording(video: str) -> str:
        """Return the episode."""
        return video.partition("_seg")[0]


class _Questions(ValueFiles):
    """Questions about a moment, with a choice of answers, of which the number is right."""

    identity = "qid"
    answers: ClassVar[int]

    def entry_rows(self, entry: Any, split: str, path: Path) -> Iterator[dict[str, Any]]:
        """Yield ``question``, ``moment``, ``answers`` in one text as VL-Adapter writes them, and ``label``."""
        moment = field(entry, "ts", str, path)
        _check_moment(moment, path)
        right = field(entry, "answer_idx", int, path)
        if not 0 <= right < self.answers:
            raise unreadable(
                path, f"the question {entry['qid']} has the right answer {right}, and answers 0 to {self.answers - 1}"
            )
        texts = [field(entry, f"a{number}", str, path) for number in range(self.answers)]
        listed = (f"a{number}: {text.strip('. ')}." for number, text in enumerate(texts))
        question = field(entry, "q", str, path).strip()
        yield {"question": question, "moment": moment, "answers": " ".join(listed), "label": right}


class Tvqa(_OfTelevision, _Questions):
    """TVQA: five answers."""

    annotations: ClassVar[Mapping[str, str]] = {
        TRAIN: "ann/tvqa/tvqa_train.jsonl",
        VALIDATION: "ann/tvqa/tvqa_val.jsonl",
    }
    files: ClassVar[tuple[str, ...]] = ("ann/tv_subtitles.jsonl", *annotations.values())
    answers = 5


class How2qa(_Questions):
    """How2QA: four answers."""

    domain = "how2"
    annotations: ClassVar[Mapping[str, str]] = {
        TRAIN: "ann/how2qa/how2qa_train_release.jsonl",
        VALIDATION: "ann/how2qa/how2qa_val_release.jsonl",
    }
    files: ClassVar[tuple[str, ...]] = ("ann/how2_subtitles.jsonl", *annotations.values())
    answers = 4

    @staticmethod
    def recording(video: str) -> str:
        """Return the name itself, a number: what clips were cut out of is not in it."""
        return video


class _Captions(ValueFiles):
    """Captions: to train on, each is a row; to validate, each clip with all its captions."""

    identity = "clip_id"

    def entry_rows(self, entry: Any, split: str, path: Path) -> Iterator[dict[str, Any]]:
        """Yield ``caption``, the first of ``captions``, and ``moment``, empty where the clip is the whole video."""
        captions = [field(one, "desc", str, path).strip() for one in field(entry, "descs", list, path)]
        if not captions or not all(captions):
            raise unreadable(path, f"the clip {entry['clip_id']} has no caption, or an empty one")
        moment = self.moment(entry, path)
        several = [[caption] for caption in captions] if split == TRAIN else [captions]
        for texts in several:
            yield {"moment": moment, "caption": texts[0], "captions": texts}

    def moment(self, entry: Any, path: Path) -> str:
        """Return what is described of a video, as VL-Adapter writes it."""
        return ""


class Tvc(_OfTelevision, _Captions):
    """TVC: a moment of a clip of television."""

    annotations: ClassVar[Mapping[str, str]] = {
        TRAIN: "ann/tvc/tvc_train_release.jsonl",
        VALIDATION: "ann/tvc/tvc_val_release.jsonl",
    }
    files: ClassVar[tuple[str, ...]] = ("ann/tv_subtitles.jsonl", *annotations.values())

    def moment(self, entry: Any, path: Path) -> str:
        """Return the start and end of a moment."""
        times = field(entry, "ts", list, path)
        duration = field(entry, "duration", (int, float), path)
        numbers = [time for time in times if isinstance(time, int | float) and not isinstance(time, bool)]
        if len(numbers) != len(times) or not _is_moment(numbers) or not numbers[1] <= duration + SEGMENT:
            raise unreadable(
                path, f"the clip {entry['clip_id']} has the moment {times} of a video of {duration} seconds"
            )
        return f"[{numbers[0]}, {numbers[1]}]"


class Yc2c(_Captions):
    """YouCook2's captions: a video is a clip."""

    domain = "yc2"
    annotations: ClassVar[Mapping[str, str]] = {
        TRAIN: "ann/yc2c/yc2c_train_release.jsonl",
        VALIDATION: "ann/yc2c/yc2c_val_release.jsonl",
    }
    files: ClassVar[tuple[str, ...]] = ("ann/yc2_subtitles.jsonl", *annotations.values())

    @staticmethod
    def recording(video: str) -> str:
        """Return the recipe's video: behind it is the clip's number."""
        return video.rpartition("_")[0] or video


def begins(moment: str) -> float | None:
    """Return when a moment begins, in seconds, or ``None`` where that is not known or there is none."""
    first = moment.strip("[]").replace(", ", "-").partition("-")[0]
    return float(first) if first and not math.isnan(float(first)) else None


def _check_moment(text: str, path: Path) -> None:
    """Check the start and end of a moment; both may be nan, which is how the publishers write that they are unknown.

    Raises:
        UserError: it is anything else.
    """
    try:
        times = [float(part) for part in text.split("-")]
    except ValueError:
        times = []
    unknown = len(times) == 2 and all(map(math.isnan, times))
    if not unknown and not _is_moment(times):
        raise unreadable(path, f'an entry has the moment "{text}", which is not START-END in seconds')


def _is_moment(times: Sequence[float]) -> bool:
    return len(times) == 2 and 0 <= times[0] <= times[1] < math.inf


def _subtitles(path: Path) -> dict[str, str]:
    """Return what is said in each video, its lines one behind the other."""
    found: dict[str, str] = {}
    for entry in read_json_lines(path):
        video = field(entry, "vid_name", str, path)
        if video in found:
            raise unreadable(path, f'the video "{video}" is there twice')
        lines = (field(line, "text", str, path).strip() for line in field(entry, "sub", list, path))
        found[video] = " ".join(lines)
    return found


def _set_apart(recordings: Sequence[str]) -> set[str]:
    """Return the recordings of a tenth of the rows or somewhat more, a thousand at most; by their names only.

    One recording at least stays.
    """
    rows: dict[str, int] = defaultdict(int)
    for name in recordings:
        rows[name] += 1
    order = sorted(rows, key=lambda name: hashlib.sha256(name.encode()).digest())
    wanted = min(SELECTION_MOST, SELECTION_SHARE * len(recordings))
    apart: set[str] = set()
    for name in order[:-1]:
        if sum(rows[one] for one in apart) >= wanted:
            break
        apart.add(name)
    return apart
