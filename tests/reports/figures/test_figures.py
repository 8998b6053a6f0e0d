"""The figure shows the planted points, in the same bytes each time, and leaves the user's matplotlib alone."""

from __future__ import annotations

import io
import math
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from parbench.bench.record.run_record import Status
from parbench.reports.figures import Reason, score_vs_parameters, to_bytes
from parbench.reports.figures.label_placement import SizeAxis, spread_labels
from parbench.reports.figures.style import COLOURS, MARKERS
from parbench.reports.frame import read_frame
from parbench.reports.tables import SMALL_LABEL

NO_FIGURE = Reason("No run has both a score and a count of its parameters.")


@pytest.fixture(autouse=True)
def _no_warning_is_let_through() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(planter: Any) -> Figure:
    figure = score_vs_parameters(read_frame(planter.store).runs)
    assert isinstance(figure, Figure)
    return figure


def means(axes: Axes) -> list[tuple[float, float, float | None]]:
    """Return where each mean stands, and half the length of its bar."""
    bars = {float(bar[0, 0]): float(bar[1, 1] - bar[0, 1]) / 2 for bar in axes.collections[0].get_segments()}
    points = [point for line in axes.lines if line.get_markersize() == 5 for point in line.get_xydata()]
    return [(float(x), float(y), bars.get(float(x))) for x, y in points]


def runs(axes: Axes) -> np.ndarray:
    """Return where each run stands."""
    return np.concatenate([line.get_xydata() for line in axes.lines if line.get_markersize() == 3])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_means_bars_and_runs_stand_where_they_should(planted: Any) -> None:
    cola, rte, stsb = draw(planted).axes
    assert [axes.get_title() for axes in (cola, rte, stsb)] == ["glue/cola", "glue/rte", "glue/stsb"]
    (lora, vera) = means(cola)
    assert lora == pytest.approx((math.log10(294_912), 60.0, 10.0))
    assert vera == pytest.approx((math.log10(18_432), 60.0, 100 * math.sqrt(0.07)))
    assert means(rte) == [pytest.approx((math.log10(294_912), 75.0, 100 * math.sqrt(0.005)))]
    assert sorted(runs(cola)[:, 1]) == pytest.approx([40, 50, 50, 60, 70, 90])
    assert cola.get_ylabel() == "matthews_correlation x100"
    assert {axes.get_xlim() for axes in (cola, rte, stsb)} == {cola.get_xlim()}


def test_one_run_has_no_bar(planter: Any) -> None:
    planter.run(0.5)
    (axes,) = draw(planter).axes
    assert means(axes) == [(pytest.approx(math.log10(294_912)), 50.0, None)]


def test_failed_runs_are_not_drawn_and_without_runs_there_is_no_figure(planter: Any) -> None:
    planter.run(0.0, status=Status.DIVERGED, reason="The loss rose.")
    assert score_vs_parameters(read_frame(planter.store).runs) == NO_FIGURE
    planter.run(0.5, seed=1, ledger=None)
    assert score_vs_parameters(read_frame(planter.store).runs) == NO_FIGURE
    planter.run(0.5, seed=2)
    (axes,) = draw(planter).axes
    assert means(axes)[0][1] == 50.0


def test_zero_parameters_have_a_place_of_their_own(planter: Any) -> None:
    planter.run(0.5, method="head only", ledger=replace(planter.ledger, reported=0))
    planter.run(0.7)
    (axes,) = draw(planter).axes
    labels = {tick.get_text(): x for x, tick in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    (zero, _, _), (lora, _, _) = means(axes)
    assert labels["0"] == zero < axes.get_xlim()[1]
    assert axes.get_xlim()[0] < zero < lora


def test_only_zero_parameters_can_be_drawn(planter: Any) -> None:
    planter.run(0.5, ledger=replace(planter.ledger, reported=0))
    assert len(to_bytes(draw(planter), "png")) > 1000


def test_methods_of_one_size_stand_side_by_side_around_it(planter: Any) -> None:
    for method in ("a", "b", "c"):
        planter.run(0.5, method=method)
    (axes,) = draw(planter).axes
    places = [x for x, _, _ in means(axes)]
    assert places == sorted(places)
    assert min(right - left for left, right in pairwise(places)) > 0.02
    assert sum(places) / 3 == pytest.approx(math.log10(294_912))
    assert sorted(runs(axes)[:, 0]) == pytest.approx(places)


def test_a_sweep_keeps_the_colour_and_marker_of_its_method(planter: Any) -> None:
    for rank in (1, 2, 4):
        for method in ("lora", "vera"):
            ledger = replace(planter.ledger, reported=rank * 1000)
            planter.run(0.5, method=method, setting={"rank": rank}, ledger=ledger)
    (axes,) = draw(planter).axes
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    assert looks == {(COLOURS[0], MARKERS[0]), (COLOURS[1], MARKERS[1])}


def test_no_two_of_many_methods_look_the_same() -> None:
    assert math.gcd(len(COLOURS), len(MARKERS)) == 1


def test_every_leaderboard_has_its_panels_and_its_label(planter: Any) -> None:
    for base_model in ("small", "large"):
        for task in ("a", "b"):
            planter.run(0.5, base_model=base_model, task=task, small=base_model == "small")
    figure = draw(planter)
    assert [axes.get_title() for axes in figure.axes] == [
        "a with large",
        "b with large",
        "a with small",
        "b with small",
    ]
    headings = [" ".join(text.split()) for text in texts(figure)]
    assert any(text.startswith("large, protocol strict, all examples") for text in headings)
    assert any(text.startswith("small, protocol strict") and text.endswith("(small suite)") for text in headings)
    assert " ".join(headings).count(SMALL_LABEL) == 1


@pytest.mark.parametrize("names", [["$\\frac{$", "a|b\n c", "_hidden", "漢字", "\x1b[2J"], ["x" * 300, "y" * 300]])
def test_hostile_names_are_drawn(planter: Any, names: list[str]) -> None:
    for name in names:
        planter.run(0.5, method=name, task=name, base_model=names[0], metric=name)
    figure = draw(planter)
    assert len(to_bytes(figure, "png")) > 10_000
    labels = [text.get_text() for text in figure.findobj(matplotlib.legend.Legend)[0].get_texts()]
    assert len(labels) == len(names)
    assert all(labels)


def test_a_tall_figure_is_still_drawn(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parbench.reports.figures.style.MOST_PIXELS", 500)
    planter.run(0.5)
    assert Image.open(io.BytesIO(to_bytes(draw(planter), "png"))).height <= 501


def test_no_more_leaderboards_are_drawn_than_can_be_read(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        planter.run(0.5, protocol=f"protocol-{number}")
    assert len(draw(planter).axes) == 3
    monkeypatch.setattr("parbench.reports.figures.style.MOST_HEIGHT", 5)
    figure = draw(planter)
    assert len(figure.axes) == 2
    shown = " ".join(" ".join(texts(figure)).split())
    assert "not drawn, to save space: the last 1 of 3 parts" in shown
    monkeypatch.setattr("parbench.reports.figures.style.MOST_HEIGHT", 1)
    assert len(draw(planter).axes) == 1


def test_panels_and_their_texts_do_not_touch(planted: Any) -> None:
    planted.run(0.5, protocol="another")
    figure = draw(planted)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [text.get_window_extent() for area in figure.subfigs for text in area.texts if text.get_text()]
    boxes += [legend.get_window_extent() for legend in figure.findobj(matplotlib.legend.Legend)]
    assert len(boxes) > 8
    for one, other in combinations(boxes, 2):
        assert not (one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1)
    edges = figure.bbox
    assert all(edges.x0 <= box.x0 and box.x1 <= edges.x1 and edges.y0 <= box.y0 and box.y1 <= edges.y1 for box in boxes)


def test_files_are_pictures_and_the_same_each_time(planted: Any) -> None:
    first, second = ({kind: to_bytes(draw(planted), kind) for kind in ("png", "svg")} for _ in range(2))
    assert first == second
    image = Image.open(io.BytesIO(first["png"]))
    assert image.width == 2100  # 7 inches at 300 dots
    shown = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in COLOURS[:2]:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(shown.astype(int) - wanted).max(axis=1) < 3).sum() > 100
    root = ElementTree.fromstring(first["svg"])  # noqa: S314
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 20
    assert b"dc:date" not in first["svg"]


def test_another_kind_of_file_is_refused(planted: Any) -> None:
    with pytest.raises(KeyError):
        to_bytes(draw(planted), "exe")


def test_the_users_matplotlib_is_left_alone_and_has_no_say(planted: Any) -> None:
    plain = to_bytes(draw(planted), "svg")
    from matplotlib import pyplot

    changes = {"font.size": 30, "text.usetex": True, "axes.prop_cycle": matplotlib.cycler(color="r")}
    with matplotlib.rc_context(changes):
        before = dict(matplotlib.rcParams)
        backend = matplotlib.get_backend()
        assert to_bytes(draw(planted), "svg") == plain
        assert dict(matplotlib.rcParams) == before
        assert matplotlib.get_backend() == backend
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("counts", "ticks"),
    [
        ([294_912], ["100k", "200k", "500k"]),
        ([1_000, 1_000_000], ["1k", "10k", "100k", "1M"]),
        ([0, 100_000_000], ["0", "50M", "100M", "200M"]),
        ([1, 10**12], ["1", "1k", "1M", "1B", "1000B"]),
    ],
)
def test_ticks(counts: list[int], ticks: list[str]) -> None:
    assert list(SizeAxis.around(counts).ticks().values()) == ticks


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([1.0], [1.0]),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0], [0.95, 1.05]),
        ([2.0, 1.0, 1.0], [2.0, 0.95, 1.05]),
        ([1.0, 1.0, 1.1], [0.9 + 1 / 30, 1.0 + 1 / 30, 1.1 + 1 / 30]),
    ],
)
def test_apart(places: list[float], moved: list[float]) -> None:
    assert spread_labels(places, 0.1) == pytest.approx(moved)
