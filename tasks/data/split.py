"""Cuts official splits into train, selection and reported: fixed by the task, never by a run's seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from parbench.bench.util.errors import UserError
from parbench.tasks.data.source import DataRef

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

# The seed of every cut. A run's seed must not move examples between splits: runs are compared example by example.
CUT_SEED = 2025
# Of an official training split, for choosing hyper-parameters; more than a thousand only costs time.
SELECTION_SHARE, SELECTION_MOST = 0.1, 1000
# An official validation split without a training split is cut in three.
THREE_WAY = {"train": 0.45, "selection": 0.15, "reported": 0.40}


class CutSplits(NamedTuple):
    """The three splits of a protocol that selects and reports on different examples."""

    train: Dataset
    selection: Dataset
    reported: Dataset


def cut_splits(raw: dict[str, Dataset], data: DataRef, limit: int | None, stratify: bool) -> CutSplits:
    """Cut the official splits ``raw``; each example is named after its official split and row.

    Where the official training split is there, the official labelled splits are reported, and the selection split is
    cut from the training split unless the task names an official one. Where it is not, the one reported split is cut in
    three.

    Raises:
        UserError: a split is too small to cut.
    """
    from datasets import concatenate_datasets

    named = {name: _named(dataset, name) for name, dataset in raw.items()}
    reported = [
        named[split].add_column("subset", [subset] * len(named[split])) for subset, split in data.reported.items()
    ]
    if data.train in named:
        pool = _of_no_subset(named[data.train])
        if data.selection:
            train, selection = pool, _of_no_subset(named[data.selection])
        else:
            selection_size = min(SELECTION_MOST, round(SELECTION_SHARE * len(pool)))
            train, selection = _cut(pool, selection_size, data, stratify)
    else:
        pool = concatenate_datasets(reported)
        rest, last = _cut(pool, round(THREE_WAY["reported"] * len(pool)), data, stratify)
        train, selection = _cut(rest, round(THREE_WAY["selection"] * len(pool)), data, stratify)
        reported = [last]
    return CutSplits(
        _limited(train, limit),
        _limited(selection, limit),
        concatenate_datasets([_limited(part, limit) for part in reported]),
    )


def nested_share(labels: Sequence[int] | None, rows: int, fraction: float, seed: int) -> list[int]:
    """Return which rows make up a share of a training split, ascending.

    The shares of one seed are nested: all that is in a smaller one is in a larger. With ``labels`` every class has its
    share as exactly as whole rows allow, and one row at least.

    Raises:
        UserError: the share is less than one row.
    """
    import numpy as np

    if fraction == 1:
        return list(range(rows))
    draw = np.random.default_rng([CUT_SEED, seed]).permutation(rows)
    classes = np.zeros(rows, dtype=int) if labels is None else np.asarray(labels)
    found: list[int] = []
    for label in np.unique(classes):
        members = draw[classes[draw] == label]
        size = round(fraction * len(members))
        found.extend(members[: max(size, 1) if labels is not None else size].tolist())
    if not found:
        raise UserError(f"a share of {fraction:g} of {rows} training examples is less than one; give a larger share")
    return sorted(found)


def _of_no_subset(dataset: Dataset) -> Dataset:
    return dataset.add_column("subset", [""] * len(dataset))


def _named(dataset: Dataset, split: str) -> Dataset:
    return dataset.add_column("example", [f"{split}:{row}" for row in range(len(dataset))])


def _cut(pool: Dataset, size: int, data: DataRef, stratify: bool) -> tuple[Dataset, Dataset]:
    from sklearn.model_selection import train_test_split

    labels: np.ndarray | None = pool.with_format("numpy")["label"][:] if stratify else None
    short = f'the data of "{data.folder}" ({len(pool)} examples) is too small to cut a selection split from'
    if not size:
        raise UserError(f"{short}: its share is less than one example; give more")
    counts = Counter([] if labels is None else labels.tolist())
    if rare := sorted(label for label, count in counts.items() if count < 2):
        raise UserError(f"{short}: the class of number {rare[0]} has one example; give two or more of each class")
    if min(size, len(pool) - size) < len(counts):
        raise UserError(f"{short}: its share of {size} is less than one of each of {len(counts)} classes; give more")
    try:
        first, second = train_test_split(range(len(pool)), test_size=size, random_state=CUT_SEED, stratify=labels)
    except ValueError as error:
        raise UserError(f"{short}: {error}") from error
    return pool.select(sorted(first)), pool.select(sorted(second))


def capped(dataset: Dataset, limit: int | None) -> Dataset:
    """Return at most ``limit`` examples of each subset, in their order, always the same ones."""
    subsets = dataset["subset"][:]
    if limit is None or max(Counter(subsets).values(), default=0) <= limit:
        return dataset
    kept: Counter[str] = Counter()
    rows = []
    for row in random.Random(CUT_SEED).sample(range(len(dataset)), len(dataset)):  # noqa: S311
        if kept[subsets[row]] < limit:
            kept[subsets[row]] += 1
            rows.append(row)
    return dataset.select(sorted(rows))


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    if limit is None or limit >= len(dataset):
        return dataset
    return dataset.shuffle(seed=CUT_SEED).select(range(limit))
