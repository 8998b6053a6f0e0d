"""The data that the tests of the commonsense sets share."""

from __future__ import annotations

from pathlib import Path

import pytest

from parbench.tasks.data.folder import FolderSource
from tests.support.commonsense_rows import piqa_instructions
from tests.support.data import write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> FolderSource:
    """A data root with generated PIQA questions in LLM-Adapters' form."""
    write_jsonl(tmp_path / "commonsense" / "piqa" / "train.jsonl.gz", piqa_instructions(60))
    write_jsonl(tmp_path / "commonsense" / "piqa" / "test.jsonl.gz", piqa_instructions(20, first=100))
    return FolderSource(tmp_path)
