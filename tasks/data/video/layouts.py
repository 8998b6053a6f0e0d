"""Video data sets as their publishers arrange them.

Of a training list a tenth of each class is set apart to choose hyper-parameters on, by whole recordings: clips of one
recording look so alike that a random cut would measure memory.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading
from parbench.tasks.data.published_folder import PublishedFolder
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.split import SELECTION_SHARE
from parbench.tasks.data.text_files import read_text

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN, SELECTION, TEST, VALIDATION = "train", "selection", "test", "validation"


@dataclass(frozen=True)
class Clip:
    """A file with its class, and the recording that it was cut out of."""

    path: Path
    label: str
    recording: str


class Clips(NamedTuple):
    """What the lists of a data set say: the clips of each split, the names of all classes, and the lists themselves."""

    splits: Mapping[str, Sequence[Clip]]
    names: Sequence[str]
    lists: Sequence[Path]


@dataclass(frozen=True)
class PublishedVideos(PublishedFolder):
    """A data set of clips beside lists of them."""

    @abstractmethod
    def clips(self, folder: Path) -> Clips:
        """Read the lists.

        Raises:
            UserError: one is not in the publishers' form.
        """

    def revision(self, data: DataRef) -> str:
        """Return the hash of the lists and of all clips that they name.

        Raises:
            UserError: one is not there or cannot be read.
        """
        folder, total = self._folder(data), hashlib.sha256()
        found = self.clips(folder)
        clips = {clip.path for split in found.splits.values() for clip in split}
        for path in sorted({*found.lists, *clips}):
            with reading(path), path.open("rb") as file:
                name = path.relative_to(folder).as_posix()
                total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the splits by their official names.

        Raises:
            UserError: a list is not in the publishers' form, or a clip is not there.
        """
        folder = self._folder(data)
        found = self.clips(folder)
        every = [clip.path for split in found.splits.values() for clip in split]
        absent = [path for path in every if not path.is_file()]
        if absent:
            raise UserError(
                f'{len(absent)} of {len(every)} clips of the lists in "{folder}" are not there, such as "{absent[0]}"; '
                "get them again"
            )
        return {split: _dataset(clips, found.names) for split, clips in found.splits.items()}

    def _folder(self, data: DataRef) -> Path:
        if missing := self.missing(data):
            raise UserError(f"{missing}; put it there, or give another --data-root")
        return self.root / data.folder


@dataclass(frozen=True)
class Hmdb51(PublishedVideos):
    """HMDB51: ``CLASS/CLIP.avi``, and of each of three splits a list per class, ``CLASS_test_split1.txt``.

    A line of a list is a clip's name and 1 for training, 2 for testing, 0 for neither (the publishers' readme, which
    counts 70 and 30 of each class).

    Attributes:
        split: which of the three.
    """

    split: int = 1
    videos = "hmdb51_org"
    lists = "testTrainMulti_7030_splits"

    def lacking(self, folder: Path) -> str | None:
        """Return which folder is not there, or that there is no list of this split."""
        if lacking := _lacking(folder, (self.videos, self.lists)):
            return lacking
        if not self._lists(folder):
            return f'there is no list CLASS_test_split{self.split}.txt in "{folder / self.lists}"'
        return None

    def clips(self, folder: Path) -> Clips:
        """Return the splits train, selection and test."""
        found: dict[str, list[Clip]] = {"0": [], "1": [], "2": []}
        lists = self._lists(folder)
        for file, name in lists.items():
            for where, line in _lines(file):
                clip, _, use = line.rpartition(" ")
                if not clip or use not in found:
                    raise UserError(f"{where} is {line!r}, and not a clip's name and 0, 1 or 2")
                # Before the class is what a clip was cut out of, and after it how it was taken.
                path = _inside(folder / self.videos, f"{name}/{clip}", where)
                found[use].append(Clip(path, name, clip.rpartition(f"_{name}_")[0] or clip))
        return Clips(set_apart(found["1"]) | {TEST: found["2"]}, sorted(lists.values()), list(lists))

    def _lists(self, folder: Path) -> dict[Path, str]:
        """Return the lists of this split, and the class that each is of."""
        ending = f"_test_split{self.split}.txt"
        with reading(folder):
            paths = sorted((folder / self.lists).glob(f"[!.]*{ending}"))
        return {path: path.name.removesuffix(ending) for path in paths}


@dataclass(frozen=True)
class Ucf101(PublishedVideos):
    """UCF101: ``UCF-101/CLASS/CLIP.avi``, numbered names of classes, and two lists of clips for each of three splits.

    Attributes:
        split: which of the three.
    """

    split: int = 1
    videos = "UCF-101"
    lists = "ucfTrainTestlist"

    def lacking(self, folder: Path) -> str | None:
        """Return which folder or list is not there."""
        return _lacking(folder, (self.videos, *(f"{self.lists}/{name}" for name in self._names)))

    def clips(self, folder: Path) -> Clips:
        """Return the splits train, selection and test."""
        classes, train, test = (folder / self.lists / name for name in self._names)
        names = self._classes(classes)
        found = set_apart(self._clips(folder, train, names)) | {TEST: self._clips(folder, test, names)}
        return Clips(found, names, (classes, train, test))

    @property
    def _names(self) -> tuple[str, str, str]:
        return "classInd.txt", f"trainlist{self.split:02d}.txt", f"testlist{self.split:02d}.txt"

    def _classes(self, file: Path) -> list[str]:
        names: list[str] = []
        for where, line in _lines(file):
            number, _, name = line.partition(" ")
            if number != str(len(names) + 1) or not name:
                raise UserError(f"{where} is {line!r}, and not {len(names) + 1} and the name of a class")
            names.append(name)
        return names

    def _clips(self, folder: Path, file: Path, names: Sequence[str]) -> list[Clip]:
        found = []
        for where, line in _lines(file):
            # Training lists have the class's number after the path, testing lists do not.
            path = line.partition(" ")[0]
            name, _, clip = path.partition("/")
            if name not in names or not clip:
                raise UserError(f"{where} is {line!r}, and not CLASS/CLIP of a class in classInd.txt")
            # v_CLASS_g08_c01: the group is the recording.
            found.append(Clip(_inside(folder / self.videos, path, where), name, clip.rpartition("_c")[0]))
        return found


_LISTS = ("labels", TRAIN, VALIDATION)


@dataclass(frozen=True)
class SomethingSomething2(PublishedVideos):
    """Something-Something V2: ``ID.webm``, and lists in JSON whose ``template`` without brackets is the class.

    The names of the lists changed with the publisher; those of both are read.
    """

    videos = "20bn-something-something-v2"

    def lacking(self, folder: Path) -> str | None:
        """Return which folder or list is not there."""
        if lacking := _lacking(folder, (self.videos,)):
            return lacking
        absent = next((name for name in _LISTS if self._list(folder, name) is None), None)
        return None if absent is None else f'there is no {absent}.json in "{folder}", nor in its folder labels'

    def clips(self, folder: Path) -> Clips:
        """Return the splits train and validation; the test split has no public labels."""
        numbers = self._content(folder, "labels", dict)
        if sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
            raise UserError(f'"{self._list_of(folder, "labels")}" does not number its classes from 0')
        names = sorted(numbers, key=lambda name: int(numbers[name]))
        splits = {split: self._clips(folder, split, numbers) for split in (TRAIN, VALIDATION)}
        return Clips(splits, names, [self._list_of(folder, name) for name in _LISTS])

    def _list_of(self, folder: Path, name: str) -> Path:
        """Return a list that `lacking` has found."""
        return self._list(folder, name) or folder / f"{name}.json"

    def _list(self, folder: Path, name: str) -> Path | None:
        places = (folder, folder / "labels")
        files = (f"something-something-v2-{name}.json", f"{name}.json")
        return next((place / file for place in places for file in files if (place / file).is_file()), None)

    def _content(self, folder: Path, name: str, kind: type) -> Any:
        path = self._list_of(folder, name)
        text = read_text(path)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f'"{path}" is not JSON: {error}') from error
        if not isinstance(content, kind):
            raise UserError(f'"{path}" holds a {type(content).__name__}, and not a {kind.__name__}')
        return content

    def _clips(self, folder: Path, split: str, numbers: Mapping[str, Any]) -> list[Clip]:
        found, path = [], self._list_of(folder, split)
        for row, entry in enumerate(self._content(folder, split, list), start=1):
            where = f'entry {row} of "{path}"'
            identity, template = (entry.get(name) if isinstance(entry, dict) else None for name in ("id", "template"))
            if not isinstance(identity, str) or not isinstance(template, str):
                raise UserError(f"{where} has no id and template that are texts")
            label = template.replace("[", "").replace("]", "")
            if label not in numbers:
                raise UserError(f"{where} has the class {label!r}, which is not among the labels")
            found.append(Clip(_inside(folder / self.videos, f"{identity}.webm", where), label, identity))
        return found


def set_apart(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Return ``train`` and ``selection``: whole recordings, a tenth of each class's clips or somewhat more.

    Which ones depends on their names only. A class with one recording stays in training.
    """
    by_class: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        by_class[clip.label][clip.recording].append(clip)
    selected: set[Path] = set()
    for label, recordings in by_class.items():
        wanted = SELECTION_SHARE * sum(map(len, recordings.values()))
        order = sorted(recordings, key=lambda name: hashlib.sha256(f"{label}/{name}".encode()).digest())
        taken = 0
        for name in order[:-1]:
            if taken >= wanted:
                break
            selected.update(clip.path for clip in recordings[name])
            taken += len(recordings[name])
    return {
        TRAIN: [clip for clip in clips if clip.path not in selected],
        SELECTION: [clip for clip in clips if clip.path in selected],
    }


def _dataset(clips: Sequence[Clip], names: Sequence[str]) -> Dataset:
    from datasets import ClassLabel, Dataset, Features, Video

    features = Features({"video": Video(decode=False), "label": ClassLabel(names=list(names))})
    columns = {"video": [str(clip.path) for clip in clips], "label": [clip.label for clip in clips]}
    return Dataset.from_dict(columns, features)


def _lacking(folder: Path, names: Sequence[str]) -> str | None:
    name = next((name for name in names if not (folder / name).exists()), None)
    return None if name is None else f'there is no "{name}" in "{folder}"'


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a list that are not empty, each with its place in words."""
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            yield f'line {number} of "{file}"', line.strip()


def _inside(folder: Path, name: str, where: str) -> Path:
    """Return the path of a clip that a list names.

    Raises:
        UserError: it leaves the folder.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{where} names a clip outside its folder; refusing to read it")
    return folder / name
