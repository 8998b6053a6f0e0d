import json
import logging
import os
import time
import warnings
from dataclasses import replace

import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import LOG
from parbench.bench.store.log import close_log, event, logged, read_log, run_log
from parbench.bench.util.secrets import redact_file, redacted
from tests.support.records import RECORD, SPEC
from tests.support.stores import make_store


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_time_event_and_level(tmp_path):
    with logged(tmp_path / LOG):
        event("resumed", "goes on from step 40", step=40)
        logging.getLogger("somebody.else").warning("%s is odd", "this")
        logging.getLogger("somebody.else").info("nobody asked")
    event("lost", "after the block")
    first, second = lines(tmp_path / LOG)
    assert first["time"].endswith("+00:00")
    assert {**first, "time": None} == {
        "time": None,
        "level": "INFO",
        "event": "resumed",
        "message": "goes on from step 40",
        "step": 40,
    }
    assert {**second, "time": None} == {
        "time": None,
        "level": "WARNING",
        "event": "message",
        "message": "this is odd",
        "logger": "somebody.else",
    }


@pytest.mark.parametrize("passes_on", [False, True])
def test_a_library_is_heard_once_whether_it_passes_on_or_not(tmp_path, monkeypatch, passes_on):
    transformers = pytest.importorskip("transformers")
    logger = transformers.utils.logging.get_logger("transformers.some_module")
    # Not as it is by itself: other libraries change it when they are imported.
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", passes_on)
    with logged(tmp_path / LOG):
        logger.error("weights are missing")
    assert [line["message"] for line in lines(tmp_path / LOG)] == ["weights are missing"]


def test_a_traceback_is_part_of_the_line(tmp_path):
    with logged(tmp_path / LOG):
        try:
            raise RuntimeError("why")
        except RuntimeError:
            logging.getLogger("parbench.bench.run.execute_run").exception("it failed")
    (line,) = lines(tmp_path / LOG)
    assert "RuntimeError: why" in line["trace"]


def test_the_log_of_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), run_log(tmp_path, SPEC, "cpu"):
        raise RuntimeError("stop")
    with (tmp_path / LOG).open("a") as file:
        file.write('{"half a li')
    with run_log(tmp_path, SPEC, "cpu"):
        event("data ready", "so many rows")
    assert [line["event"] for line in read_log(tmp_path / LOG)] == ["began", "left", "began", "data ready"]
    began = next(read_log(tmp_path / LOG))
    assert (began["run"], began["pid"], began["message"]) == (SPEC.run_id, os.getpid(), str(SPEC))


def test_a_log_ends_with_how_the_run_did(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    close_log(tmp_path, output, RECORD)
    assert not (output / LOG).exists(), "a run that has logged nothing has no log"
    with run_log(tmp_path, SPEC, "cpu"):
        pass
    close_log(tmp_path, output, RECORD)
    *_, last = read_log(output / LOG)
    assert (last["event"], last["level"], last["status"], last["metrics"]) == ("ended", "INFO", "ok", RECORD.metrics)
    close_log(tmp_path, output, replace(RECORD, status=Status.DIVERGED, reason="the loss was not finite"))
    *_, last = read_log(output / LOG)
    assert (last["level"], last["message"]) == ("ERROR", "the loss was not finite")


def test_the_log_is_among_the_files_of_the_record(tmp_path):
    store = make_store(tmp_path / "store")
    workspace = store.workspace(RECORD.run_id)
    (workspace / "output").mkdir()
    with run_log(workspace, SPEC, "cpu"):
        record = store.commit(RECORD, workspace / "output")
    assert LOG in record.files
    assert [line["event"] for line in read_log(store.runs / record.run_id / LOG)] == ["began", "ended"]


def test_the_log_of_a_run_contains_its_phases(bench_run, tmp_path):
    assert bench_run(methods="lora").code == 0
    (path,) = (tmp_path / "store" / "runs").glob(f"*/{LOG}")
    found = list(read_log(path))
    assert [found[0]["event"], found[-1]["event"]] == ["began", "ended"]
    times = [line["time"] for line in found]
    assert times == sorted(times)


def test_a_full_disk_or_a_wrong_message_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with logged(tmp_path / LOG):
        logging.getLogger("somebody").warning("%d", "no number")
        event("next", "goes on")
    assert [line["event"] for line in lines(tmp_path / LOG)] == ["next"]


def test_secrets_are_replaced_by_their_names(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret/1")
    monkeypatch.setenv("MY_API_KEY", "sk-12345678")
    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    monkeypatch.setenv("SHORT_KEY", "1")
    monkeypatch.setenv("KEYBOARD", "qwertz-de")
    text = "a hf_verysecret/1 b hf_verysecret%2F1 c sk-12345678 d correct horse e qwertz-de 1"
    assert redacted(text) == "a [HF_TOKEN] b [HF_TOKEN] c [MY_API_KEY] d [DB_PASSWORD] e qwertz-de 1"
    path = tmp_path / "file"
    path.write_bytes(b"\xff\xfe sk-12345678\n")
    redact_file(path)
    assert path.read_bytes() == b"\xff\xfe [MY_API_KEY]\n"
    redact_file(tmp_path / "nothing")
    with logged(tmp_path / LOG):
        event("asked", "with sk-12345678", address="https://there/?key=sk-12345678")
    assert "sk-12345678" not in (tmp_path / LOG).read_text()


def test_a_log_does_not_outlive_its_block(tmp_path):
    before = list(logging.getLogger().handlers)
    with logged(tmp_path / LOG):
        assert logging.getLogger().handlers != before
    assert logging.getLogger().handlers == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        event("nobody", f"hears {time.time()}")
