"""Whole data sets of videos as their publishers arrange them, with a few clips of every class; no two are the same."""

import json
from itertools import count

from tests.support.clips import clip, numbered_frame


def _put(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = numbered_frame(number % 256) // (1 + number // 256)
    path.write_bytes(clip(kind="gif", pictures=[picture] * 3))


def hmdb51(folder, labels):
    lists, numbers = folder / "testTrainMulti_7030_splits", count()
    lists.mkdir(parents=True)
    for label in labels:
        names = [f"Film_{film}_{label}_f_cm_np1_ba_med_0.avi" for film in range(4)]
        for name in names:
            _put(folder / "hmdb51_org" / label / name, next(numbers))
        lines = [f"{name} {use} \n" for name, use in zip(names, (1, 1, 2, 0), strict=True)]
        (lists / f"{label}_test_split1.txt").write_text("".join(lines))


def ucf101(folder, labels):
    lists, numbers = folder / "ucfTrainTestlist", count()
    lists.mkdir(parents=True)
    names = [f"Action{label}" for label in labels]
    (lists / "classInd.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, start=1)))
    for file, groups in (("trainlist01.txt", (8, 9)), ("testlist01.txt", (1,))):
        paths = [f"{name}/v_{name}_g{group:02d}_c01.avi" for name in names for group in groups]
        (lists / file).write_text("".join(f"{path}\n" for path in paths))
        for path in paths:
            _put(folder / "UCF-101" / path, next(numbers))


def ssv2(folder, labels):
    folder.mkdir(parents=True)
    templates, numbers = [f"Doing [something] {label}" for label in labels], count()
    for split, copies in (("train", 12), ("validation", 1)):
        rows = [{"id": str(next(numbers)), "template": template} for template in templates for _ in range(copies)]
        (folder / f"something-something-v2-{split}.json").write_text(json.dumps(rows))
        for row in rows:
            _put(folder / "20bn-something-something-v2" / f"{row['id']}.webm", int(row["id"]))
    classes = {f"Doing something {label}": label for label in labels}
    (folder / "something-something-v2-labels.json").write_text(json.dumps(classes))


WRITERS = {write.__name__: write for write in (hmdb51, ucf101, ssv2)}
