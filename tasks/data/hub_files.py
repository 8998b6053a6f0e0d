"""CSV and JSON files of a hub repository, read as local ones are.

`datasets` guesses the types of their columns, whatever the repository declares: of a column of texts, ``02116`` becomes
``2116`` and ``NA`` is missing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.files import write_atomically
from parbench.tasks.data.csv_rows import csv_table
from parbench.tasks.data.json_rows import json_table
from parbench.tasks.data.source import HubDataset, Reads
from parbench.tasks.data.tables import as_dataset

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, DatasetBuilder

CSV, JSON = "csv", "json"
# Options of a repository's files that do not change what is read here.
_WITHOUT_EFFECT = {
    *("name", "version", "data_dir", "data_files", "description", "features", "sep", "delimiter", "keep_default_na"),
    *("na_filter", "chunksize", "use_threads", "block_size", "newlines_in_values", "on_mixed_types"),
}
_PACKED = (".zip", ".xz", ".bz2", ".zst", ".lz4", ".7z", ".tar", ".rar")


@dataclass(frozen=True)
class HubFiles:
    """The text files of a repository at one commit.

    Attributes:
        repository: ``owner/name``.
        commit: the commit.
        kind: `CSV` or `JSON`.
        separator: what stands between the values of a CSV file.
        splits: by split, the paths of its files in the repository.
        labels: by column, the names of its classes, where the repository declares them.
    """

    repository: str
    commit: str
    kind: str
    separator: str
    splits: dict[str, list[str]]
    labels: dict[str, list[str]]

    def load(self, split: str, reads: Reads | None) -> Dataset:
        """Download the files of a split, or take them from the local cache, and read the columns of ``reads``.

        Raises:
            UserError: there is no such split, or a file cannot be read.
            OSError: a file cannot be had.
        """
        import pyarrow as pa
        from datasets import ClassLabel
        from huggingface_hub import hf_hub_download

        if split not in self.splits:
            raise UserError(f"{self.repository} has no split {split}; it has {', '.join(self.splits)}")
        paths = [
            Path(hf_hub_download(self.repository, name, repo_type="dataset", revision=self.commit))
            for name in self.splits[split]
        ]
        try:
            tables = [self._table(path, reads) for path in paths]
            dataset = as_dataset(pa.concat_tables(tables, promote_options="permissive"), paths[0])
            for column, names in self.labels.items():
                if column in dataset.column_names:
                    dataset = dataset.cast_column(column, ClassLabel(names=names))
        except (pa.ArrowException, ValueError) as error:
            if isinstance(error, UserError):
                raise
            what = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"the files of the split {split} of {self.repository} do not go together ({what}); give corrected ones "
                "with --data-root"
            ) from error
        return dataset

    def _table(self, path: Path, reads: Reads | None) -> pa.Table:
        return csv_table(path, reads, self.separator) if self.kind == CSV else json_table(path, reads)


def find_hub_files(dataset: HubDataset, commit: str) -> HubFiles | None:
    """Return the text files of a repository; ``None`` where its data is in a format that has types.

    What is found is kept in the cache of `datasets`, so that it is read without the network from then on.

    Raises:
        UserError: the files have to be read in a way that is not supported here; or the hub cannot be reached, and
            only a copy with guessed types is in the cache.
        OSError: the hub cannot be reached.
    """
    from datasets import config, load_dataset_builder

    name = f"{dataset.repository.replace('/', '--')}--{dataset.config or 'default'}@{commit}.json"
    kept = Path(config.HF_DATASETS_CACHE) / "parbench" / name
    if kept.is_file():
        return HubFiles(**json.loads(kept.read_text(encoding="utf-8")))
    builder = load_dataset_builder(dataset.repository, dataset.config, revision=commit)
    if builder.info.builder_name not in (CSV, JSON):
        return None
    if not builder.config.data_files:
        raise UserError(
            f"of {dataset.repository} the local cache has only a copy in which the types of columns are guessed; "
            "connect to the network once to get its files"
        )
    found = _described(builder, dataset.repository, commit)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, json.dumps(dataclasses.asdict(found)))
    return found


def _described(builder: DatasetBuilder, repository: str, commit: str) -> HubFiles:
    from datasets import ClassLabel

    _refuse_options(builder.config, repository)
    files: dict[Any, Sequence[str]] = builder.config.data_files or {}
    features = builder.info.features or {}
    return HubFiles(
        repository=repository,
        commit=commit,
        kind=str(builder.info.builder_name),
        separator=getattr(builder.config, "sep", ","),
        splits={str(split): [_path_of(url, repository) for url in urls] for split, urls in files.items()},
        labels={name: list(one.names) for name, one in features.items() if isinstance(one, ClassLabel)},
    )


def _refuse_options(config: Any, repository: str) -> None:
    """Check that a repository does not ask for another way to read its files.

    Raises:
        UserError: it does.
    """
    if len(separator := getattr(config, "sep", ",")) != 1:
        raise UserError(
            f"{repository} separates values by {separator!r}; give its files with --data-root, as plain CSV"
        )
    plain = type(config)()
    for option in (field.name for field in dataclasses.fields(config)):
        value = getattr(config, option)
        is_plain = value == getattr(plain, option) or (option == "encoding" and value in ("utf-8", "utf8", None))
        if option not in _WITHOUT_EFFECT and not is_plain:
            raise UserError(
                f"{repository} has its files read with {option}={value!r}, which is not supported; download them, save "
                "them as plain CSV or JSON lines, and give them with --data-root"
            )


def _path_of(url: str, repository: str) -> str:
    """Return the path of a file in its repository.

    Raises:
        UserError: it is elsewhere, or packed in a way that is not read here.
    """
    start, _, rest = url.partition(f"hf://datasets/{repository}@")
    path = rest.partition("/")[2]
    if start or not path or "::" in url or path.endswith(_PACKED):
        raise UserError(
            f'{repository} has the file "{url}", which is elsewhere or packed; download and unpack it, and give it '
            "with --data-root"
        )
    return path
