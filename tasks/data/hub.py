"""Datasets and models on the hub, always at one commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.source import DataRef, HubDataset

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class HubSource:
    """The hub, through `datasets`."""

    lock: RevisionLock

    def missing(self, data: DataRef) -> str | None:
        """Return that the data is not on the hub, if so; only a download shows whether the hub can be reached."""
        return None if data.hub else f"the data of {data.folder} is not on the hub"

    def describe(self, data: DataRef) -> str:
        """Return the repository and configuration."""
        return f"hub {_named(self._dataset(data))}"

    def revision(self, data: DataRef) -> str:
        """Return the pinned commit, or the one resolved at the first download and locked since."""
        dataset = self._dataset(data)
        return dataset.revision or resolve("dataset", dataset.repository, self.lock)

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Download the splits, or take them from the local cache; text files are read as local ones are.

        Raises:
            UserError: they cannot be had or read.
        """
        from datasets import load_dataset

        from parbench.tasks.data.hub_files import find_hub_files

        dataset = self._dataset(data)
        revision = self.revision(data)
        refused: tuple[type[Exception], ...] = (*_refusals(), KeyError, RuntimeError)
        try:
            if files := find_hub_files(dataset, revision):
                return {split: files.load(split, data.reads) for split in data.split_names}
            found = load_dataset(dataset.repository, dataset.config, revision=revision)
            return {split: found[split] for split in data.split_names}
        except refused as error:
            if isinstance(error, UserError):
                raise
            raise UserError(_unreachable(_named(dataset), error)) from error

    def _dataset(self, data: DataRef) -> HubDataset:
        if data.hub is None:
            raise UserError(f"{self.missing(data)}; give its files with --data-root")
        return data.hub


def _named(dataset: HubDataset) -> str:
    return f"{dataset.repository} {dataset.config or ''}".strip()


def resolve(kind: Literal["dataset", "model"], repository: str, lock: RevisionLock) -> str:
    """Return the locked commit of a repository; ask the hub, and lock the answer, the first time.

    Raises:
        UserError: nothing is locked and the hub cannot be asked.
    """
    locked = lock.get(kind, repository)
    if locked is not None:
        return locked
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        info = api.dataset_info(repository) if kind == "dataset" else api.model_info(repository)
    except _refusals() as error:
        raise UserError(_unreachable(repository, error)) from error
    if info.sha is None:
        raise UserError(f'the hub names no commit of "{repository}"; pin a revision')
    return lock.put(kind, repository, info.sha)


def obstacle(repository: str) -> str | None:
    """Return why a model repository is available neither on the hub nor in the local cache, or ``None``.

    It takes seconds; the libraries that load a model retry each of its files for minutes.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(try_to_load_from_cache(repository, "config.json"), str):
        return None
    try:
        HfApi().model_info(repository, timeout=5)
    except HfHubHTTPError as error:
        return f"{repository} is not in the local cache and the hub does not give it ({_first_line(error)})"
    except _refusals():
        return f"{repository} is not in the local cache and the hub cannot be reached"
    return None


def _refusals() -> tuple[type[Exception], ...]:
    """Return what the hub's client raises where it gets nothing."""
    # Its own errors are those of answers; a name not resolved or a connection refused is an error of its HTTP library,
    # which changes with its version.
    from huggingface_hub.errors import HTTPError

    return OSError, ValueError, HTTPError


def _unreachable(what: str, error: Exception) -> str:
    return (
        f'cannot get "{what}" from the hub, and there is no local copy of it; connect to the network, give local files '
        f"(--data-root for data, a folder for --model), or use --suite mini ({_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
