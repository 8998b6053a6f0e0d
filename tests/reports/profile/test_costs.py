"""Profiles beside the leaderboards: the assignment of costs to rows, remarks on the rest, and figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner

from parbench.bench.cli.report import report as command
from parbench.bench.profile.result import Profile
from parbench.bench.util.errors import UserError
from parbench.reports.figures import Reason, score_vs_parameters, score_vs_profiled_memory, score_vs_profiled_step
from parbench.reports.frame import read_frame
from parbench.reports.profile.costs import Profiled, match_profiles, read_profiles
from parbench.reports.profile.tables import write_profile
from parbench.reports.report import write_report
from parbench.reports.tables import summarise
from tests.support.profiles import MIB, SIZE, candidate, profile_of


@pytest.fixture(autouse=True)
def _no_warning_is_let_through() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def matched(planter: Any, *profiles: Profile) -> Profiled:
    return match_profiles(summarise(read_frame(planter.store).runs), profiles)


def drawn(figure: Figure | Reason) -> Figure:
    assert isinstance(figure, Figure), figure
    return figure


def means(figure: Figure) -> list[tuple[float, float]]:
    lines = [line for line in figure.axes[0].lines if line.get_markersize() == 5]
    return sorted((round(float(x), 9), round(float(y), 9)) for line in lines for x, y in line.get_xydata())


def message(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(matplotlib.text.Text))


VERA = {"method": "vera", "setting": {"rank": 8, "learning_rate": 0.01}}


def test_costs_stand_with_the_spread_of_their_rounds(planter: Any) -> None:
    planter.seeds([0.5, 0.6])
    planter.run(0.7, **VERA)
    found = matched(planter, profile_of(candidate("vera")))
    assert found.cells["row"].tolist() == ["lora", "vera"]
    steps = found.cells[["profiled_step", "profiled_step_least", "profiled_step_most"]].to_numpy().tolist()
    assert steps == [[1, 1, 1], [pytest.approx(2), pytest.approx(2), pytest.approx(4)]]
    memory = found.cells[["profiled_memory", "profiled_memory_least", "profiled_memory_most"]] / MIB
    assert memory.to_numpy().tolist() == [[110, 100, 120], [210, 200, 220]]
    (table,) = found.tables
    assert table.caption == "roberta-base"
    assert table.head[2] == "step, as a multiple of LoRA's (rank=8)"
    assert table.rows == (
        ("lora", "rank=8", "1.00 (1.00-1.00)", "110 (100-120)"),
        ("vera", "rank=8", "2.00 (2.00-4.00)", "210 (200-220)"),
    )


def test_remarks_describe_the_profile(planter: Any) -> None:
    planter.run(0.5)
    (told,) = matched(planter, profile_of()).remarks
    assert told == (
        "costs come from a profile measured separately from the scored runs, of roberta-base, random weights, "
        "batch 32 x 128 tokens, float32; 3 rounds of 10 steps; an abacus, 1 thread; memory is that of the process"
    )
    _, batches, noted = matched(planter, profile_of(batches=(4,), busy=0.5)).remarks
    assert batches == "the scored runs have batches of 32"
    assert noted.startswith("warning of the profile: the machine is not idle: 50% of its")


def test_of_several_batches_that_of_the_runs_is_taken(planter: Any) -> None:
    planter.run(0.5)
    told = matched(planter, profile_of(batches=(4, 32, 64))).remarks
    assert len(told) == 1
    assert "batch 32 x 128 tokens" in told[0]


def test_what_the_profile_lacks_is_named(planter: Any) -> None:
    planter.run(0.5)
    for method, rank in (("vera", 8), ("loca", 4), ("dora", 8), ("bitfit", 8), ("adalora", 8)):
        planter.run(0.6, method=method, setting={"rank": rank, "learning_rate": 1.0, "dropout": 0.1})
    bitfit = candidate("bitfit", {"rank": 8, "learning_rate": 1.0, "dropout": 0.2, "alpha": 1})
    profile = profile_of(
        candidate("loca"),
        candidate("dora"),
        bitfit,
        candidate("adalora"),
        failed=("adalora",),
        sizes={"dora": SIZE - 1},
    )
    found = matched(planter, profile)
    assert found.cells["row"].tolist() == ["bitfit", "lora"]
    assert sorted(found.remarks[1:]) == [
        "in the profile only at another size: dora (294,911 parameters, and not 294,912), loca (rank=8, and not 4)",
        "not in the profile: vera",
        "not measured in the profile (it is too large): adalora",
        "of the same size in the profile, differing in alpha, dropout: bitfit",
    ]


def test_a_row_has_the_cost_of_its_own_size_and_setting(planter: Any) -> None:
    for rank in (4, 8):
        planter.run(0.5, setting={"rank": rank, "learning_rate": 0.1, "dropout": 0.0})
    profile = profile_of(
        candidate("lora", {"rank": 4, "dropout": 0.5}, "lora(rank=4,dropout=0.5)"),
        candidate("lora", {"rank": 4, "dropout": 0.0}, "lora(rank=4)"),
    )
    found = matched(planter, profile)
    by_row = dict(zip(found.cells["row"], found.cells["profiled_step"], strict=True))
    assert by_row == {"lora (rank=4)": pytest.approx(3), "lora (rank=8)": 1}
    # The eight of the profile is without a dropout; among the fours one is the very same.
    assert found.remarks[-1] == "of the same size in the profile, differing in dropout: lora (rank=8)"


def test_a_profile_of_another_base_model_is_refused(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, base_model="gpt2")
    one = matched(planter, profile_of())
    assert one.cells["base_model"].tolist() == ["roberta-base"]
    assert one.remarks[-1] == "no costs of gpt2: the profile is of roberta-base"
    none = matched(planter, profile_of(model="bert"))
    assert none.remarks == (
        "a profile is of bert, which no leaderboard has",
        "no costs of gpt2, roberta-base: the profile is of bert",
    )
    runs = read_frame(planter.store).runs
    for figure in (score_vs_profiled_step(runs, none), score_vs_profiled_memory(runs, none)):
        assert isinstance(figure, Reason)
        assert figure.text == (
            "No row of a leaderboard has this cost in a profile: a profile is of bert, which no leaderboard has; no "
            "costs of gpt2, roberta-base: the profile is of bert."
        )
    both = matched(planter, profile_of(), profile_of(model="gpt2"))
    assert both.cells["base_model"].tolist() == ["roberta-base", "gpt2"]
    assert [table.caption for table in both.tables] == ["roberta-base", "gpt2"]


def test_scores_are_drawn_against_the_costs(planter: Any) -> None:
    planter.seeds([0.5, 0.6])
    planter.run(0.7, **VERA)
    planter.run(0.4, method="loca")
    runs = read_frame(planter.store).runs
    found = matched(planter, profile_of(candidate("vera"), candidate("loca")))
    figure = drawn(score_vs_profiled_step(runs, found))
    assert means(figure) == [(1, 55), (2, 70), (3, 40)]
    small = [line for line in figure.axes[0].lines if line.get_markersize() == 3]
    assert sorted((float(x), float(y)) for line in small for x, y in line.get_xydata()) == [
        (1, 50), (1, 60), (2, 70), (3, 40)
    ]  # fmt: skip
    level = [bar for bar in figure.axes[0].collections[0].get_segments() if bar[0][1] == bar[1][1]]
    assert sorted(bar[:, 0].tolist() for bar in level) == [[2, 4], [3, 6]]
    (front,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert front.get_xydata().ravel().tolist() == pytest.approx([1, 55, 2, 70])
    words = message(figure)
    for part in (
        "least to most of the profile's rounds",
        "Pareto front",
        "measured separately from the scored runs",
        "abacus",
    ):
        assert part in words
    memory = drawn(score_vs_profiled_memory(runs, found))
    assert [x for x, _ in means(memory)] == pytest.approx([110 / 1024, 210 / 1024, 310 / 1024])


def test_a_method_looks_the_same_where_others_are_not_drawn(planter: Any) -> None:
    for method in ("adalora", "bitfit", "lora"):
        planter.run(0.5, method=method)
    runs = read_frame(planter.store).runs

    def looks(figure: Figure) -> dict[str, str]:
        handles = figure.findobj(matplotlib.legend.Legend)[0]
        return {
            text.get_text(): line.get_color()
            for text, line in zip(handles.get_texts(), handles.legend_handles, strict=True)
        }

    every = looks(drawn(score_vs_parameters(runs)))
    one = looks(drawn(score_vs_profiled_step(runs, matched(planter, profile_of()))))
    assert one == {"lora": every["lora"]}


def test_without_lora_there_are_not_multiples_of_it(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.7, **VERA)
    found = matched(planter, profile_of(candidate("vera"), failed=("lora",)))
    runs = read_frame(planter.store).runs
    assert isinstance(score_vs_profiled_step(runs, found), Reason)
    assert means(drawn(score_vs_profiled_memory(runs, found))) == [(pytest.approx(210 / 1024), 70)]


@pytest.mark.parametrize("name", ["$\\frac{$\n", "_漢字", "x" * 300])
def test_hostile_names_are_drawn(planter: Any, name: str) -> None:
    for method in (name, f"{name}2"):
        planter.run(0.5, method=method, base_model=name, task=name)
    found = matched(planter, profile_of(candidate(name), model=name))
    assert len(found.cells) == 1
    drawn(score_vs_profiled_step(read_frame(planter.store).runs, found)).draw_without_rendering()


def test_the_report_shows_and_draws_them(planter: Any, tmp_path: Path) -> None:
    planter.run(0.5)
    planter.run(0.7, **VERA)
    planter.run(0.5, base_model="gpt2")
    plain = write_report(planter.store, tmp_path / "plain")
    assert plain.remarks == ()
    assert "Profiled costs" not in plain.page.read_text()
    assert "No profile was given: bench profile --out FOLDER makes one" in plain.page.read_text()
    found = write_report(planter.store, tmp_path / "profiled", (profile_of(),))
    names = {path.name for path in found.files} - {path.name for path in plain.files}
    assert names == {f"score_vs_profiled_{what}.{kind}" for what in ("step", "memory") for kind in ("png", "svg")}
    for text in (found.page.read_text(), found.files[0].read_text()):
        for part in ("Profiled costs", "110 (100-120)", "not in the profile: vera", "no costs of gpt2: the profile is"):
            assert part in text
    again = write_report(planter.store, tmp_path / "again", (profile_of(),))
    assert [path.read_bytes() for path in again.files] == [path.read_bytes() for path in found.files]


def test_a_profile_is_found_in_the_store_or_by_name(planter: Any, tmp_path: Path) -> None:
    store = planter.store
    assert read_profiles((), store) == ()
    write_profile(profile_of(), store.root / "profile")
    write_profile(profile_of(model="gpt2"), tmp_path / "other")
    assert [profile.base_model for profile in read_profiles((), store)] == ["roberta-base"]
    assert [profile.base_model for profile in read_profiles((tmp_path / "other",), store)] == ["gpt2"]
    with pytest.raises(UserError, match="there are two profiles of gpt2"):
        read_profiles((tmp_path / "other", tmp_path / "other" / "profile.json"), store)
    with pytest.raises(UserError, match="make one with bench profile --out"):
        read_profiles((tmp_path / "nowhere",), store)


@pytest.mark.usefixtures("_no_figures")
def test_the_command_takes_profiles_and_states_what_they_lack(planter: Any, tmp_path: Path) -> None:
    planter.run(0.5)
    write_profile(profile_of(model="gpt2"), tmp_path / "other")
    app = typer.Typer()
    app.command()(command)
    arguments = ["--out", str(planter.store.root), "--profile", str(tmp_path / "other")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "profiled costs: no costs of roberta-base: the profile is of gpt2" in result.output


def test_a_profile_on_other_base_weights_is_no_cost_of_a_run(planter: Any) -> None:
    planter.run(0.5, base_precision="nf4")
    planter.run(0.5)
    found = matched(planter, profile_of())
    assert found.cells["row"].tolist() == ["lora (base=float32)"]
    assert any("not profiled with base weights in nf4: lora (base=nf4)" in remark for remark in found.remarks)
