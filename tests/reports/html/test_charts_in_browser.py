"""The interactive figures and the whole page in a browser: hovering, keyboard, dark, print, narrow, no script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from parbench.reports.frame import read_frame
from parbench.reports.report import write_report
from tests.support.shares import plant_shares

ATTACK = "</script><img src=x onerror=\"document.title='taken'\">\u2028"
SHARES = {"lora": 0.25, "loca": 0.1, "vera": 0.3, ATTACK: 0.2}
TASKS = ("glue/rte", "glue/sst2")
FIRST = "#chart-1-differences"
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def page(planted_once: Any) -> Path:
    """The page of a store with an attack in a method's name, three kinds of figures and failed runs."""
    plant_shares(planted_once, SHARES, TASKS, small=True)
    for rank, score in ((1, 0.25), (2, 0.5), (4, 0.75)):
        planted_once.run(
            None,
            seed=9,
            purpose="selection",
            setting={"rank": rank},
            selection_metrics={"matthews_correlation": score},
        )
    return write_report(planted_once.store).page


@contextmanager
def opened(browser: Any, page: Path, width: int = 1200, script: bool = True, **media: Any) -> Iterator[Any]:
    """Open the page; requests and complaints of the browser are collected in ``requests`` and ``complaints``."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=script, color_scheme=media.pop("scheme", "light")
    )
    context.set_offline(True)
    shown = context.new_page()
    shown.requests, shown.complaints = [], []
    shown.on("request", lambda request: shown.requests.append(request.url))
    shown.on("console", lambda message: shown.complaints.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: shown.complaints.append(str(error)))
    shown.emulate_media(**media)
    shown.goto(page.as_uri())
    if script and media.get("media") != "print":
        shown.wait_for_selector(f"{FIRST} .drawing[data-drawn]")
    yield shown
    context.close()


def draw_all(shown: Any) -> None:
    """Scroll through the page, so that every figure is drawn."""
    for chart in shown.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".drawing[data-drawn]").wait_for()


def test_the_page_is_small_whole_and_loads_nothing(browser: Any, page: Path) -> None:
    assert page.stat().st_size < MOST_BYTES
    with opened(browser, page) as shown:
        draw_all(shown)
        assert shown.requests[0] == page.as_uri()
        assert all(url.startswith("data:") for url in shown.requests[1:])
        assert shown.complaints == []
        assert shown.title() == "parbench report"
        assert shown.locator(".drawing svg").count() == shown.locator(".chart").count() == 5
        assert shown.locator("img[src='x']").count() == 0
        assert not shown.locator("picture.replaced").first.is_visible()


def hovered(shown: Any, chart: str, number: int) -> dict[str, str]:
    """Return what is shown where a large mark of a chart is hovered."""
    mark = shown.locator(f"{chart} svg .mark-symbol.role-mark").last.locator("path").nth(number)
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    shown.locator("#hover dl").wait_for()
    names, texts = (shown.locator(f"#hover {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, texts, strict=True))


def test_a_hovered_point_shows_method_setting_score_interval_and_run(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        runs = read_frame(read_store(page)).runs
        seen = hovered(shown, "#chart-1-differences", 0)
        assert seen["method"] in {*SHARES, "a"}
        assert "rank = 8" in seen["setting"]
        assert {"score", "minus lora"} <= set(seen)
        assert set(seen["runs"].split(", ")) <= set(runs["run_id"])
        shown.mouse.move(2, 2)
        shown.locator("#hover").wait_for(state="hidden")


def test_a_click_on_a_run_opens_it(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        draw_all(shown)
        mark = shown.locator("#chart-2-costs svg .mark-symbol.role-mark").last.locator("path").last
        mark.scroll_into_view_if_needed()
        mark.click(force=True)
        shown.locator("dialog[open]").wait_for()
        assert "seed" in shown.locator("#panel-title").inner_text()


def read_store(page: Path) -> Any:
    from parbench.bench.store.store import Store

    return Store(page.parents[1])


def labels(shown: Any, chart: str) -> set[str]:
    return set(shown.locator(f"{chart} svg .mark-text.role-axis-label text").all_text_contents())


def test_methods_are_hidden_by_the_keyboard_alone(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        chart = "#chart-2-differences"
        draw_all(shown)
        before = labels(shown, chart)
        assert "vera" in before
        summary = shown.locator(f"{chart} .chart-tools summary").first
        summary.focus()
        shown.keyboard.press("Enter")
        box = shown.locator(f"{chart} input[value='vera']")
        while not box.evaluate("one => one === document.activeElement"):
            shown.keyboard.press("Tab")
        shown.keyboard.press("Space")
        shown.wait_for_function(
            "name => !document.querySelector(name).textContent.includes('vera')", arg=f"{chart} svg"
        )
        assert before - labels(shown, chart) >= {"vera"}
        assert {"lora", "loca"} <= labels(shown, chart)
        count = len(shown.locator(f"{chart} fieldset input").all())
        assert summary.inner_text() == f"Methods shown: {count - 1} of {count}"
        assert not shown.locator("#chart-2-costs input[value='vera']").is_checked()


def test_the_cost_is_chosen(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown:
        draw_all(shown)
        chart = shown.locator("#chart-2-costs")
        assert "time of a training step (s)" in chart.locator("svg").text_content()
        chart.locator("select").select_option("adapter parameters, as reported")
        shown.wait_for_function("document.querySelector('#chart-2-costs svg').textContent.includes('parameters')")
        assert "training step" not in chart.locator("svg").text_content()


def test_without_script_the_static_figures_and_the_numbers_are_there(browser: Any, page: Path) -> None:
    with opened(browser, page, script=False) as shown:
        for picture in shown.locator("picture.replaced, figure.replaced").all():
            assert picture.is_visible()
        assert shown.locator(".chart:visible, .live:visible").count() == 0
        assert shown.locator("summary", has_text="The numbers of this figure").first.is_visible()


def test_print_shows_the_static_figures_and_every_table(browser: Any, page: Path) -> None:
    with opened(browser, page, media="print") as shown:
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        for picture in shown.locator("picture.replaced, figure.replaced").all():
            assert picture.is_visible()
        assert shown.locator(".chart:visible, .live:visible, nav:visible").count() == 0
        assert shown.locator("#chart-1-differences-numbers").is_visible()


def test_a_library_that_fails_leaves_the_static_figures(browser: Any, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("window.vegaEmbed=") == 1
    broken = tmp_path / "index.html"
    broken.write_text(text.replace("window.vegaEmbed", "window.another"), encoding="utf-8")
    context = browser.new_context(bypass_csp=True)
    shown = context.new_page()
    shown.goto(broken.as_uri())
    shown.locator("#charts-failed").wait_for()
    assert shown.locator("picture.replaced").first.is_visible()
    assert "the static ones are shown" in shown.locator("#charts-failed").inner_text()
    context.close()


AXE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
SITUATIONS = {
    "light": {},
    "dark": {"scheme": "dark"},
    "narrow": {"width": 500},
    "narrow and dark": {"width": 500, "scheme": "dark"},
    "print": {"media": "print"},
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_axe_finds_nothing_serious(browser: Any, page: Path, situation: str) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(browser, page, **SITUATIONS[situation]) as shown:
        if situation == "print":
            shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        else:
            draw_all(shown)
            shown.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shown.evaluate(axe)
        found = shown.evaluate(AXE)
        serious = [
            (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []


def test_axe_sees_an_open_run(browser: Any, page: Path) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(browser, page) as shown:
        shown.locator("#runs-table a").first.click()
        shown.locator("dialog[open]").wait_for()
        shown.evaluate(axe)
        assert [one["id"] for one in shown.evaluate(AXE) if one["impact"] in ("serious", "critical")] == []
