import io
import sys
import types
from dataclasses import replace

import pytest
from rich.console import Console

from parbench.bench.execute import progress as module
from parbench.bench.execute.progress import LineProgress, NotebookProgress, make_progress, summary
from tests.support.records import RECORD


def test_a_trial_is_summed_up_by_what_it_is_selected_by():
    trial = replace(RECORD, metrics={}, selection_metrics={"accuracy": 0.5, "f1": 0.25})
    assert summary(trial) == "accuracy 50.0 on the selection split"
    assert summary(replace(trial, selection_primary="f1")) == "f1 25.0 on the selection split"
    assert summary(RECORD) == "accuracy 81.2"


class Handle:
    """Stands for IPython's handle of a displayed output, which a kernel replaces at each update."""

    def __init__(self):
        self.texts = []

    def update(self, data, raw):
        assert raw
        self.texts.append(data["text/plain"])


@pytest.fixture
def handle(monkeypatch):
    found = Handle()
    shown = types.ModuleType("IPython.display")
    shown.display = lambda data, raw, display_id: found
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return found


def test_a_notebook_shows_one_line_that_is_replaced_and_a_line_per_run(handle, monkeypatch, recwarn):
    clock = iter(range(10**6))
    # A step takes about a millisecond: far more updates than a notebook should get.
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock) / 1000)
    console = Console(force_jupyter=True, file=io.StringIO())
    lines = []
    monkeypatch.setattr(console, "print", lambda text, **how: lines.append(text))
    with make_progress(console, 1) as shown:
        assert isinstance(shown, NotebookProgress)
        shown.begin(RECORD.spec)
        for step in range(1, 2001):
            shown.step(RECORD.spec, step, 2000, 0.25 if step % 10 == 0 else None)
        shown.end(RECORD)
    assert 3 <= len(handle.texts) <= 10
    assert handle.texts[0] == f"{RECORD.spec}: step 1 of 2000"
    assert handle.texts[-3].endswith("of 2000, loss 0.250")
    assert handle.texts[-2:] == ["", ""]
    (line,) = lines
    assert line.startswith(f"[1/1] {RECORD.run_id} ")
    assert not recwarn.list


def test_a_file_gets_lines():
    assert type(make_progress(Console(file=io.StringIO()), 1)) is LineProgress
