"""Cuts official splits into train, selection and reported: fixed by the task, never by a run's seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.errors import UserError
from tasks.data.source import DataRef

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

# The seed of every cut. A run's seed must not move examples between splits: runs are compared example by example.
CUT_SEED = 2025
# Of an official training split, for choosing hyper-parameters; more than a thousand only costs time.
SELECTION_SHARE, SELECTION_MOST = 0.1, 1000
# Where only an official validation split is at hand, it is cut in three.
THREE_WAY = {"train": 0.45, "selection": 0.15, "reported": 0.40}


class Cut(NamedTuple):
    """The three splits of a protocol that selects and reports on different examples."""

    train: Dataset
    selection: Dataset
    reported: Dataset


def cut_splits(raw: dict[str, Dataset], data: DataRef, limit: int | None, stratify: bool) -> Cut:
    """Cut the official splits ``raw``; each example is named after its official split and row.

    Where the official training split is there, the selection split is cut from it and the official labelled splits are
    reported. Where it is not, the one reported split is cut in three.

    Raises:
        UserError: a split is too small to cut.
    """
    from datasets import concatenate_datasets

    named = {name: _named(dataset, name) for name, dataset in raw.items()}
    reported = [
        named[split].add_column("subset", [subset] * len(named[split])) for subset, split in data.reported.items()
    ]
    if data.train in named:
        pool = named[data.train].add_column("subset", [""] * len(named[data.train]))
        selection_size = min(SELECTION_MOST, round(SELECTION_SHARE * len(pool)))
        train, selection = _cut(pool, selection_size, data, stratify)
    else:
        pool = concatenate_datasets(reported)
        rest, last = _cut(pool, round(THREE_WAY["reported"] * len(pool)), data, stratify)
        train, selection = _cut(rest, round(THREE_WAY["selection"] * len(pool)), data, stratify)
        reported = [last]
    return Cut(
        _limited(train, limit),
        _limited(selection, limit),
        concatenate_datasets([_limited(part, limit) for part in reported]),
    )


def _named(dataset: Dataset, split: str) -> Dataset:
    return dataset.add_column("example", [f"{split}:{row}" for row in range(len(dataset))])


def _cut(pool: Dataset, size: int, data: DataRef, stratify: bool) -> tuple[Dataset, Dataset]:
    from sklearn.model_selection import train_test_split

    labels: np.ndarray = pool.with_format("numpy")["label"][:]
    try:
        first, second = train_test_split(
            range(len(pool)), test_size=size, random_state=CUT_SEED, stratify=labels if stratify else None
        )
    except ValueError as error:
        raise UserError(
            f'the data of "{data.folder}" ({len(pool)} examples) is too small to cut a selection split from: {error}'
        ) from error
    return pool.select(sorted(first)), pool.select(sorted(second))


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    if limit is None or limit >= len(dataset):
        return dataset
    return dataset.shuffle(seed=CUT_SEED).select(range(limit))
