"""Foreign input is not trusted, and secrets are not revealed."""

import ast
import json
import os
import subprocess
import sys

import pytest
import yaml

from parbench.bench.plan.suite import load_suite, parse_suite
from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.bench.util.yaml import UniqueKeysLoader
from parbench.tasks import find_task
from parbench.tasks.from_yaml.yaml_reader import _PlainLoader
from tests.support.outside_methods import install_methods
from tests.support.paths import ROOT, SOURCE

KEY = "sk-planted-0123456789/abc"


@pytest.fixture
def site(tmp_path):
    names = ("tells", "tells_and_raises", "tells_and_dies")
    return install_methods(tmp_path / "site", "telltale", names)


def test_a_planted_key_is_nowhere_in_the_store(site, tiny_data, tiny_model, tmp_path):
    store = tmp_path / "store"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "parbench.bench", "run", "--suite", "mini", "--tasks", "glue/sst2", "--seeds", "1"),
            *("--methods", "tells,tells_and_raises,tells_and_dies", "--model", tiny_model, "--data-root", tiny_data),
            *("--set=train.max_steps=4", "--set=train.max_length=32", "--set=train.checkpoint_steps=1", "--out", store),
        ],
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{SOURCE}", "PLANTED_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=250,
        cwd=ROOT,
    )
    found = {record.spec.method: record for record in Store(store).scan()}
    assert {name: record.status for name, record in found.items()} == {
        "tells": Status.OK,
        "tells_and_raises": Status.ERROR,
        "tells_and_dies": Status.ERROR,
    }, done.stderr
    assert found["tells_and_raises"].reason == "RuntimeError: 401 for https://there/?key=[PLANTED_API_KEY]"
    assert found["tells_and_dies"].reason.endswith("the last word is [PLANTED_API_KEY]")
    assert "a warning of [PLANTED_API_KEY]" in found["tells"].provenance.notes
    trace = (store / "runs" / found["tells_and_raises"].run_id / "error.txt").read_text()
    assert "RuntimeError: 401 for https://there/?key=[PLANTED_API_KEY]" in trace
    printed = (store / "work" / found["tells_and_dies"].run_id / "output.log").read_text()
    assert "stderr [PLANTED_API_KEY]" in printed
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


NAMES = ["../outside", "/etc/passwd", "..", "a/../../b", "glue/../../x", "glue/sst2/../../../x", "\x00", "~", "-rf", ""]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["--tasks", "--methods", "--suite"])
def test_no_name_leads_out_of_the_store(bench, tiny_data, tiny_model, tmp_path, option, name):
    options = {"--suite": "mini", "--tasks": "glue/sst2", "--methods": "lora", option: name}
    given = [part for pair in options.items() for part in pair]
    before = {path.name for path in tmp_path.iterdir()}
    result = bench("run", *given, "--model", tiny_model, "--data-root", tiny_data, "--out", tmp_path / "store")
    assert result.code == 2
    assert "Traceback" not in result.err
    assert {path.name for path in tmp_path.iterdir()} <= {*before, "store"}


@pytest.mark.parametrize("name", ["../x", "/x", "..", "a/../../b", "a\x00b", "a b/c", "a/b/../c"])
def test_a_task_file_cannot_take_a_name_that_is_a_way(tmp_path, name):
    (tmp_path / "a.csv").write_text("text,label\ngood,yes\nbad,no\n")
    (tmp_path / "b.csv").write_text("text,label\nwell,yes\n")
    (tmp_path / "task.yaml").write_text(
        f"name: {json.dumps(name)}\nkind: classification\nreference: {{title: T, year: 2026, venue: own}}\n"
        "licence: own\ndata: {folder: ., train: a.csv, reported: b.csv}\ntexts: [text]\nlabel: label\n"
        "labels: ['no', 'yes']\nmetrics: [accuracy]\n"
    )
    with pytest.raises(UserError, match="is wrong"):
        find_task(str(tmp_path / "task.yaml"))


@pytest.mark.parametrize("run_id", ["../../etc", "/etc", ".", "..", "*", "%"])
def test_show_reads_nothing_but_runs(bench, tmp_path, run_id):
    (tmp_path / "store" / "runs" / "0123456789abcdef").mkdir(parents=True)
    result = bench("show", run_id, "--out", tmp_path / "store")
    assert result.code == 2
    assert "no run begins with" in result.err


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['false']", "!!python/name:os.system", "!include x"])
def test_yaml_makes_no_objects(tag, tmp_path):
    with pytest.raises(UserError):
        parse_suite(f"name: {tag}\n", "x")
    path = tmp_path / "task.yaml"
    path.write_text(f"name: my/task\nkind: {tag}\n")
    with pytest.raises(UserError):
        find_task(str(path))


def test_an_unknown_key_of_a_suite_is_refused():
    content = load_suite("mini").model_dump(mode="json")
    with pytest.raises(UserError, match='no field "taskz"'):
        parse_suite(json.dumps({**content, "taskz": []}), "x")


# Calls that run or load what others may have written, and the files that have a reason to.
UNSAFE = {
    "eval",
    "exec",
    "yaml.load",
    "pickle.load",
    "pickle.loads",
    "cloudpickle.load",
    "marshal.loads",
    "shelve.open",
    "joblib.load",
    "os.system",
    "tempfile.mktemp",
}


def source_files():
    """Return all modules of the package; its subpackages are links to folders of the root."""
    subpackages = [
        path for package in ("bench", "methods", "reports", "tasks") for path in (ROOT / package).rglob("*.py")
    ]
    return sorted([*subpackages, *(SOURCE / "parbench").glob("*.py")])


def calls():
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(ROOT), node, ast.unparse(node.func)


def keyword(node, name):
    return next((ast.unparse(given.value) for given in node.keywords if given.arg == name), None)


def test_the_source_calls_nothing_unsafe():
    found = list(calls())
    assert len(found) > 1000
    assert {".src/parbench/__init__.py", ".src/parbench/api.py"} <= {str(path) for path, _, _ in found}
    unsafe = [(str(path), ast.unparse(node)) for path, node, name in found if name in UNSAFE]
    # The safe loader, made stricter.
    assert issubclass(_PlainLoader, UniqueKeysLoader)
    assert issubclass(UniqueKeysLoader, yaml.SafeLoader)
    assert unsafe == [("bench/util/yaml.py", "yaml.load(text, loader)")]
    loads = [(path, node) for path, node, name in found if name == "torch.load"]
    assert [(str(path), node.lineno) for path, node in loads if keyword(node, "weights_only") != "True"] == []
    assert [str(path) for path, node, _ in found if keyword(node, "trust_remote_code") not in (None, "False")] == []
    assert [str(path) for path, node, _ in found if keyword(node, "shell") not in (None, "False")] == []


def test_no_server_listens_to_other_machines():
    text = {path: path.read_text() for path in source_files()}
    assert [str(path) for path, source in text.items() if "0.0.0.0" in source] == []  # noqa: S104
    assert '_node_ip_address="127.0.0.1"' in text[ROOT / "bench" / "execute" / "ray.py"]
