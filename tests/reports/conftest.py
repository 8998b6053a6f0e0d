"""Stores planted with known runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from parbench.bench.store.store import Store
from tests.support.planter import Planter, plant


@pytest.fixture
def planter(store: Store) -> Planter:
    return Planter(store)


@pytest.fixture
def planted(planter: Planter) -> Planter:
    """Two methods on three tasks with three seeds, whose means and deviations are known by hand.

    =====  ====================  =========================  ================
    \\      glue/cola             glue/rte                   glue/stsb
    =====  ====================  =========================  ================
    lora   0.5, 0.6, 0.7         0.7, 0.8, diverged         0.9, 0.9, 0.9
    vera   0.4, 0.5, 0.9         out of memory              not run
    =====  ====================  =========================  ================
    """
    plant(planter)
    return planter


@pytest.fixture(scope="module")
def planted_once(tmp_path_factory: pytest.TempPathFactory) -> Planter:
    """The same, for tests that only read it or what is made of it."""
    store = Store(tmp_path_factory.mktemp("once") / "store")
    store.prepare()
    planter = Planter(store)
    plant(planter)
    return planter


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a report whose tables are the question: figures take longer than all else in it."""
    monkeypatch.setattr("parbench.reports.report.all_figures", lambda *arguments: {})
    monkeypatch.setattr("parbench.reports.report.forests", lambda boards: [])
    monkeypatch.setattr("parbench.reports.report.charts_of", lambda frame, boards: None)


@pytest.fixture
def damage(store: Store) -> Callable[[str, str], None]:
    """Return a function that spoils the record of a run: ``half`` written, ``edited`` by hand, or ``missing``."""

    def spoil(run_id: str, how: str) -> None:
        path = store.runs / run_id / "record.json"
        text = path.read_text(encoding="utf-8")
        if how == "half":
            path.write_text(text[: len(text) // 2], encoding="utf-8")
        elif how == "edited":
            assert "0.5" in text
            path.write_text(text.replace("0.5", "0.95"), encoding="utf-8")
        else:
            path.unlink()

    return spoil


@pytest.fixture
def copied(store: Store, tmp_path: Path) -> Callable[[], Store]:
    """Return a function that copies the store to another place."""

    def copy() -> Store:
        shutil.copytree(store.runs, tmp_path / "elsewhere" / "deeper" / "runs")
        return Store(tmp_path / "elsewhere" / "deeper")

    return copy


@pytest.fixture
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task is known: what is compared is what the records say, whatever rows a task leaves."""
    monkeypatch.setattr("parbench.reports.integrity._find_task", lambda spec: "it is not asked here")
