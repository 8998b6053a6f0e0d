"""Fixtures for all tests: no hub, one thread, a tiny model and tiny data made on the spot."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

# Before torch is imported: a second thread on a busy machine makes small models many times slower.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

from parbench.bench.store.store import Store
from tests.support.data import NEGATIVE, NEUTRAL, POSITIVE, sentences, write_jsonl

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
# Number of modules when objects were last excluded from garbage collection.
_FROZEN = [0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: many tests wait for another process or for a time limit."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _libraries_are_no_garbage() -> None:
    """Exclude what libraries hold from garbage collection.

    `transformers.Trainer` collects before and after each training, which takes longer than a few steps of a tiny model.
    """
    if len(sys.modules) != _FROZEN[0]:
        gc.collect()
        gc.freeze()
        _FROZEN[0] = len(sys.modules)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    store = Store(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def no_judge_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of the machine's reaches a judge."""
    for name in ("PARBENCH_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts to reach a judge."""
    from parbench.tasks.judge import Retries

    monkeypatch.setattr(Retries, "wait_s", lambda self, failure: 0.0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that are too large, or not free, to be kept in the project."""
    folder = Path(os.environ.get("PARBENCH_TEST_DATA", SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"needs real data sets in {folder}; name their folder with PARBENCH_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a generated ``glue-sst2``."""
    root = tmp_path_factory.mktemp("data")
    write_jsonl(root / "glue-sst2" / "train.jsonl.gz", sentences(160, seed=0))
    write_jsonl(root / "glue-sst2" / "validation.jsonl.gz", sentences(60, seed=1))
    return root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights and a tokenizer of the sentences' words, as a local folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *NEUTRAL, *POSITIVE, *NEGATIVE]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
