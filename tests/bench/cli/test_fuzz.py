"""Suites, task files and records with random faults: whatever is wrong with them is one sentence, never a traceback."""

import copy
import json
import random
from pathlib import Path

import pytest
import yaml

from parbench.bench.plan.suite import load_suite, parse_suite
from parbench.bench.record.run_record import RunRecord
from parbench.bench.record.run_spec import digest
from parbench.bench.record.serialization import from_json, to_json
from parbench.bench.store.layout import RECORD as RECORD_FILE
from parbench.bench.store.store import Unreadable
from parbench.bench.util.errors import UserError
from parbench.tasks import find_task
from tests.support.records import RECORD
from tests.support.stores import make_store, put

CASES = 300
ODD = [
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", " ", "x" * 5000, "../../etc/passwd"),
    *("\x00", "\ud7ff", "é" * 50, "1e9", "lora(", "lora(r=[)", "lora+", "+", "a/b/c", [], {}, [[]], [None], {"": {}}),
    *({"a": {"b": {"c": []}}}, [1] * 1000, {"lora": None}, {"lora": {"r": "big"}}, "glue/*", "mini.yaml", "2026-13-45"),
]
TASK = {
    "name": "my/words",
    "kind": "classification",
    "reference": {"title": "Words", "year": 2026, "venue": "own data"},
    "licence": "own",
    "data": {"folder": ".", "train": "train.csv", "reported": "test.csv"},
    "texts": ["text"],
    "label": "label",
    "labels": ["no", "yes"],
    "metrics": ["accuracy", "f1"],
}


def places(value, path=()):
    """Yield where something stands in nested mappings and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def spoil(content, draw):
    """Put something odd in place of something, or leave it out, or add a field."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        paths = [path for path in places(content) if path]
        if not paths:
            break
        *way, last = draw.choice(paths)
        owner = content
        for key in way:
            owner = owner[key]
        kind = draw.random()
        if kind < 0.6:
            owner[last] = copy.deepcopy(draw.choice(ODD))
        elif kind < 0.8:
            del owner[last]
        elif isinstance(owner, dict):
            owner[draw.choice(["extra", "", "r", "name", "learning_rate"])] = copy.deepcopy(draw.choice(ODD))
        else:
            owner.append(copy.deepcopy(draw.choice(ODD)))
    return content


def garble(text, draw):
    """Change, drop, repeat or insert a few characters."""
    letters = list(text)
    for _ in range(draw.choice([1, 2, 10, 100])):
        at = draw.randrange(len(letters) + 1)
        piece = draw.choice(
            ["", "\x00", "\t", ":", "- ", "[", "{", "}", "&a ", "*a", "!!python/object:x ", "'", "\n", "💥"]
        )
        letters[at : at + draw.choice([0, 1, 20])] = piece
    return "".join(letters)


def texts(content, dump, seed):
    """Yield files of the kind of ``content``, each with faults of its own."""
    for number in range(CASES):
        draw = random.Random(f"{seed} {number}")
        text = dump(spoil(content, draw))
        yield garble(text, draw) if number % 2 else text


def in_yaml(content):
    return yaml.dump(content, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True)


def mini_suite():
    """Return the content of the suite, of whose many trials one method's are enough to be spoiled."""
    content = load_suite("mini").model_dump(mode="json")
    task, found = next(iter(content["tuning"]["found"].items()))
    method, trials = next(iter(found.items()))
    content["tuning"]["found"] = {task: {method: trials}}
    return yaml.safe_load(in_yaml(content))


def is_sentence(message):
    return message.strip() and "Traceback" not in message


def test_suites():
    content = mini_suite()
    refused = 0
    for text in texts(content, in_yaml, "suite"):
        complaint = None
        try:
            parse_suite(text, "a suite")
        except UserError as error:
            complaint = str(error)
        if complaint is not None:
            refused += 1
            assert is_sentence(complaint)
    assert CASES / 3 < refused < CASES


def test_suites_are_planned_or_refused(bench, tiny_data, tiny_model, tmp_path):
    content = mini_suite()
    path, codes = tmp_path / "suite.yaml", []
    for number in range(CASES // 10):
        draw = random.Random(f"plan {number}")
        # What is asked for is what is spoiled: half of the suite is of no concern to these tasks.
        kept = {key: content[key] for key in draw.sample(["training", "settings", "by_task", "methods", "seeds"], 2)}
        path.write_text(in_yaml({**content, **spoil(kept, draw)}), encoding="utf-8", errors="surrogateescape")
        given = ["--tasks", "glue/sst2", "--model", tiny_model, "--data-root", tiny_data, "--out", tmp_path / "store"]
        # The tiny model takes no longer texts.
        given += ["--set", "train.max_length=32"]
        result = bench("run", "--dry-run", "--suite", path, *given)
        codes.append(result.code)
        assert result.code in (0, 2), result.err
        assert "Traceback" not in result.err
    assert 0 < codes.count(2) < len(codes)


def test_task_files(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\ngood,yes\nbad,no\n")
    (tmp_path / "test.csv").write_text("text,label\nwell,yes\n")
    path, refused = tmp_path / "task.yaml", 0
    for text in texts(TASK, in_yaml, "task"):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        complaint = None
        try:
            task = find_task(str(path))
            task.missing(task.own_source)
        except UserError as error:
            complaint = str(error)
        if complaint is not None:
            refused += 1
            assert is_sentence(complaint)
    assert CASES / 3 < refused < CASES


def sealed(content):
    """Return a record's text with the checksum that it would have."""
    content = {name: value for name, value in content.items() if name != "sha256"}
    try:
        return json.dumps({**content, "sha256": digest(content)})
    except (TypeError, ValueError):
        return json.dumps(content)


def test_records(tmp_path):
    """Also those whose checksum is right: a program that writes records may be wrong."""
    store = make_store(tmp_path / "store")
    record = put(store)
    other = put(store, seed=2)
    path = store.runs / record.run_id / RECORD_FILE
    content, unreadable = json.loads(to_json(record)), 0
    for text in texts(content, sealed, "record"):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        found = {
            Path(entry.path).name if isinstance(entry, Unreadable) else entry.run_id: entry for entry in store.scan()
        }
        assert found[other.run_id] == other
        assert len(found) == 2
        loaded = store.load(record.run_id)
        if isinstance(loaded, Unreadable):
            unreadable += 1
            assert is_sentence(str(loaded))
        else:
            assert isinstance(loaded, RunRecord)
            assert from_json(to_json(loaded)) == loaded
    assert unreadable > CASES / 2


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '""', "{}", '{"sha256": 1}', "\ufeff{}"])
def test_small_things_are_not_records(text):
    with pytest.raises(ValueError, match=r"is not|was changed"):
        from_json(text)


def test_a_record_reads_as_it_was_written():
    assert from_json(to_json(RECORD)) == RECORD
