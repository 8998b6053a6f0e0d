"""Any task by a YAML file: ``bench run --tasks my_task.yaml``.

A file has the fields of `parbench.tasks.from_yaml.schema`::

    name: my/reviews
    kind: classification          # or regression, text_generation, multiple_choice, image_classification,
                                  # video_classification, image_text
    reference: {title: Reviews of our shop, year: 2026, venue: own data}
    licence: CC BY 4.0
    data: {folder: reviews, train: train.csv, reported: test.csv}
    texts: [review]
    label: stars
    labels: [bad, good]
    metrics: [accuracy, f1]       # the first ranks

The labels of images or videos in class folders may be left out: they are the folders' names. The file's content is the
task's `definition`, which goes into the records: a record can be scored again without the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.file_errors import reading
from parbench.bench.util.validation import validated
from parbench.tasks import TASKS
from parbench.tasks.base import Task
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.image_files import class_folders, image_files
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.from_yaml.kinds import data_ref, dumped, made
from parbench.tasks.from_yaml.schema import KINDS, Definition
from parbench.tasks.from_yaml.yaml_reader import read_mapping

# The kinds whose examples are files, and may be in one folder per class.
_IN_CLASS_FOLDERS = ("image_classification", "video_classification")


def task_of_file(path: Path) -> Task:
    """Return the task that a YAML file defines, with its data.

    Raises:
        UserError: the file defines none, takes a name that is taken, or its data would be outside its folder.
    """
    definition, root = _read(path)
    if definition.data.hub:
        return made(definition, HubSource(RevisionLock(path.with_suffix(".lock.json"))))
    return made(definition, FolderSource(root))


def read_definition(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file, checked and with every default; no path in it is of this machine.

    Raises:
        UserError: as `task_of_file`.
    """
    return dumped(_read(path)[0])


def defined_task(definition: Mapping[str, Any]) -> Task:
    """Return the task of a definition, as a record keeps it: it has no data of its own, and needs none to score.

    Raises:
        UserError: it defines none.
    """
    return made(_validated(definition, "the definition of the task"), None)


def _read(path: Path) -> tuple[Definition, Path]:
    """Return a file's content, and the folder that its data's folder is in."""
    content = read_mapping(path)
    root = path.parent
    data = content.get("data")
    folder = data.get("folder") if isinstance(data, dict) else None
    explicit = isinstance(folder, str) and Path(folder).is_absolute()
    if isinstance(data, dict) and isinstance(folder, str) and explicit:
        # Only by its absolute path, written out, may a file name a folder that is not below its own.
        root = Path(folder).parent
        content = {**content, "data": {**data, "folder": Path(folder).name or "."}}
    definition = _validated(_with_class_folders(content, root, path), f'the task file "{path}"')
    if definition.name in TASKS or any(name.startswith(f"{definition.name}/") for name in TASKS):
        raise UserError(f'the task file "{path}" takes the name "{definition.name}", which a task of parbench has')
    if not explicit:
        _refuse_outside(definition, root, path)
    return definition, root


def _with_class_folders(content: Mapping[str, Any], root: Path, path: Path) -> Mapping[str, Any]:
    """Return the content with the labels that it leaves out where class folders have them for names.

    They go into the definition like labels that are written out: a record must have them without the folder.

    Raises:
        UserError: there are no such folders.
    """
    data = content.get("data")
    if content.get("kind") not in _IN_CLASS_FOLDERS or "labels" in content or not isinstance(data, Mapping):
        return content
    folder, train = data.get("folder", "."), data.get("train")
    if not isinstance(folder, str) or not isinstance(train, str) or ".." in Path(folder, train).parts:
        return content
    classes = root / folder / train
    with reading(classes):
        names = sorted(class_folders(classes)) if classes.is_dir() else []
    if len(names) < 2:
        raise UserError(
            f'the task file "{path}" leaves out the labels, which are then the names of class folders, and there are '
            f'{len(names) or "none"} in "{classes}"; name the labels, or give one folder per class'
        )
    return {**content, "labels": names}


def _validated(content: Mapping[str, Any], what: str) -> Definition:
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        known = did_you_mean(kind, KINDS) if isinstance(kind, str) else f"; there is: {', '.join(KINDS)}"
        raise UserError(f"{what} is wrong: {f'there is no kind {kind!r}' if kind else 'it needs a kind'}{known}")
    return validated(KINDS[kind], content, what)


def _refuse_outside(definition: Definition, root: Path, path: Path) -> None:
    """Check that no link leads the data out of the file's folder; the names were checked already."""
    found = FolderSource(root).paths(data_ref(definition.data))
    with reading(root):
        home = root.resolve()
        images = [image for entry in found if entry.is_dir() for image in image_files(entry)]
        outside = [file for file in (*found, *images) if not file.resolve().is_relative_to(home)]
    if outside:
        raise UserError(
            f'the task file "{path}" leads by a link to "{outside[0].name}" outside of its folder; give the absolute '
            "path of the data's folder in data.folder"
        )
