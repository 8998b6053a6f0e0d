"""The page in a browser: nothing hostile runs, the address holds the state, two widths, thousands of runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import HISTORY
from parbench.reports.figures import all_figures, pictured, read_histories
from parbench.reports.frame import read_frame
from parbench.reports.html import Page, render_page
from parbench.reports.leaderboard import leaderboards
from parbench.reports.published import reproduction
from parbench.reports.report import write_report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

# --no-sandbox: the tests may run as root, where Chromium's sandbox cannot; the page is our own.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000"),
)
ATTACK = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def browse(path: Path, fragment: str, folder: Path, *options: str) -> str:
    """Open a page, and return its DOM or what else the options ask for."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", *options, f"{path.as_uri()}{fragment}"]
    # Variables of a desktop session must have no effect.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBUS")}
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, env=environment)
    return done.stdout.decode()


def dump(path: Path, fragment: str, folder: Path) -> str:
    return browse(path, fragment, folder, "--dump-dom")


def column(dom: str, table: str, number: int) -> list[str]:
    """Return the texts of a table's column, of rows that are shown."""
    body = re.search(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', dom, re.DOTALL)
    assert body is not None
    rows = re.findall(r"<tr(?![^>]*hidden)[^>]*>(.*?)</tr>", body[1], re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [unescape(re.sub(r"<[^>]*>", "", row[number])).strip() for row in cells]


def _with_script(page: Path, script: str) -> Path:
    """Return a copy of the page with a script of the test's, which its policy would not let run."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy = page.with_name("probed.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def page(planted_once: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted store, with an attack in every text, a curve and all figures."""
    spec = {"method": ATTACK, "setting": {ATTACK: ATTACK}}
    notes = replace(planted_once.provenance, notes=(ATTACK,), hardware={"processor": ATTACK})
    rows = pd.DataFrame({"example": [ATTACK] * 3, "subset": "", "label": ATTACK, "prediction": ATTACK})
    attacked = planted_once.run(0.1, metric=ATTACK, task=ATTACK, provenance=notes, rows=rows, small=True, **spec)
    planted_once.run(status=Status.ERROR, reason=ATTACK, seed=7, small=True, **spec)
    entries = [{"step": step, "loss": 1 / step} for step in range(1, 9)]
    log = "".join(json.dumps(entry) + "\n" for entry in entries)
    (planted_once.store.runs / attacked.run_id / HISTORY).write_text(log, encoding="utf-8")
    frame = read_frame(planted_once.store)
    histories = read_histories(planted_once.store, frame.runs["run_id"])
    pictures = pictured(all_figures(frame, histories=histories))
    content = Page(frame, leaderboards(frame), pictures, reproduction(frame.runs), histories, planted_once.store)
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render_page(content), encoding="utf-8")
    path.with_name("attacked").write_text(attacked.run_id)
    return path


def test_nothing_hostile_runs_and_a_run_opens(page: Path, tmp_path: Path) -> None:
    dom = dump(page, f"#run={page.with_name('attacked').read_text()}", tmp_path)
    assert "<title>parbench report</title>" in dom
    assert '<img src="x"' not in dom
    assert re.search(r'<dialog id="panel"[^>]* open', dom)
    panel = dom[dom.index('<div id="panel-body">') :]
    assert "The first 3 of 3 examples" in panel
    assert re.search(r'<path d="M[\d. ]+(L[\d. ]+){7}"', panel)
    assert unescape(panel).count("document.title='taken'") > 6
    assert "SMALL SUITE" in panel


def test_shares_repeats_and_texts_are_on_the_page(planter: Any, tmp_path: Path) -> None:
    for share in (0.1, 1.0):
        planter.seeds([0.5, 0.6, 0.7], train_fraction=share)
    planter.run(0.55, repeat=1)
    rows = pd.DataFrame({"example": ["1"], "subset": "", "references": [["one way", ATTACK]]})
    options = {"judge": ATTACK}
    asked = planter.run(6.5, task="outside/chat", metric="rating", rows=rows, options=options, base_model="another")
    report = write_report(planter.store)
    dom = dump(report.page, f"#run={asked.run_id}", tmp_path)
    assert column(dom, "data-efficiency-1", 0) == ["lora"]
    assert column(dom, "board-1-noise", 3) == ["2"]
    assert re.search(r'<details class="folded"><summary>[^<]*10 % of the training split</summary>', dom)
    panel = unescape(dom[dom.index('<div id="panel-body">') :])
    assert f"one way | {ATTACK}" in panel
    assert "Task options" in panel
    assert "<title>parbench report</title>" in dom


def test_the_address_sorts_and_filters(page: Path, tmp_path: Path) -> None:
    plain = dump(page, "", tmp_path)
    assert column(plain, "board-1-scores", 0) == ["lora", "vera"]
    assert column(plain, "board-1-scores", 1) == ["294,912", "18,432"]
    ascending = dump(page, "#sort.board-1-scores=1.asc", tmp_path)
    assert column(ascending, "board-1-scores", 1) == ["18,432", "294,912"]
    assert 'aria-sort="ascending"' in ascending
    filtered = dump(page, "#q=VERA&sort.runs-table=3.desc", tmp_path)
    assert column(filtered, "board-1-scores", 0) == ["vera"]
    assert column(filtered, "runs-table", 3) == ["2", "1", "0", "0"]
    chosen = dump(page, "#ended=diverged", tmp_path)
    assert column(chosen, "runs-table", 4) == ["diverged"]


def test_leaving_a_run_by_its_button_or_the_address_keeps_the_sorting(page: Path, tmp_path: Path) -> None:
    script = """
        const states = [];
        const note = () => states.push(document.getElementById("panel").open, ...["sort", "run"].map(
          (name) => location.hash.includes(name)));
        const steps = [
          () => { location.hash = "#run=RUN"; },
          () => { note(); location.hash = "#sort.board-1-scores=1.asc"; },
          () => { note(); location.hash = "#run=RUN"; },
          () => { note(); document.getElementById("close").click(); },
          () => { note(); document.title = states.join(" "); },
        ];
        steps.forEach((step, number) => setTimeout(step, 200 * (number + 1)));
    """.replace("RUN", page.with_name("attacked").read_text())
    dom = dump(_with_script(page, script), "#sort.board-1-scores=1.asc", tmp_path)
    told = re.search("<title>(.*?)</title>", dom)
    assert told is not None
    assert told[1] == " ".join(["true true true", "false true false", "true true true", "false true false"])


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_in_the_width(page: Path, tmp_path: Path, width: int) -> None:
    probed = _with_script(page, "document.title=document.documentElement.scrollWidth+' '+innerWidth")
    picture = tmp_path / "page.png"
    dom = browse(probed, "", tmp_path, "--dump-dom", f"--window-size={width},900")
    told = re.search(r"<title>(\d+) (\d+)</title>", dom)
    assert told is not None
    assert int(told[1]) <= int(told[2])
    browse(page, "", tmp_path, f"--window-size={width},900", f"--screenshot={picture}")
    shown = Image.open(picture).convert("L")
    assert shown.width == width
    assert len(shown.getcolors() or []) > 20


def test_five_thousand_runs_open(planter: Any, tmp_path: Path) -> None:
    planter.run(0.5)
    frame = read_frame(planter.store)
    many = frame.runs.loc[[0] * 5_000].reset_index(drop=True)
    many = many.assign(run_id=[f"{number:016x}" for number in range(5_000)], seed=range(5_000))
    path = tmp_path / "index.html"
    path.write_text(render_page(Page(replace(frame, runs=many), ())), encoding="utf-8")
    dom = dump(path, "#run=0000000000001387", tmp_path)
    assert "Runs: 200 shown of 5000" in dom
    assert "lora on glue/cola, seed 4999" in dom
