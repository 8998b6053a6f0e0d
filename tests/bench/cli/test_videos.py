"""Clips from the command to the report."""

import io
import json

import pandas as pd
import pytest
import yaml
from PIL import Image

from parbench.bench.store.store import Store
from parbench.tasks import TASKS
from tests.support.clips import clip, numbered_frame
from tests.support.published_videos import WRITERS
from tests.support.value_files import value_folder
from tests.support.video_models import saved

FIELDS = {
    "name": "my/clips",
    "kind": "video_classification",
    "reference": {"title": "Clips", "year": 2026, "venue": "own data"},
    "data": {"train": "train", "reported": "test"},
    "labels": ["dark </script><b>", "bright"],
    "options": {"jitter": True},
}

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ucf101", "ssv2")]
SIZES = ("lora.r=2", "loca.n_frequency=20", "train.max_steps=4", "train.batch_size=4")


@pytest.fixture
def task(tmp_path, monkeypatch):
    """The file of a task with clips that are dark or bright."""
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 20), ("test", 8)):
        rows = []
        for number in range(count):
            picture = numbered_frame(number) // 4 + (150 if number % 2 else 0)
            rows.append({"video": clip(pictures=[picture] * (6 + number)), "label": FIELDS["labels"][number % 2]})
        pd.DataFrame(rows).to_parquet(tmp_path / f"{split}.parquet")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(FIELDS))
    return tmp_path / "task.yaml"


def test_clips_from_the_command_to_the_report(bench, task, tmp_path):
    model = saved(tmp_path / "videomae", "videomae")
    store = Store(tmp_path / "store")
    common = ("--tasks", task, "--model", model, "--methods", "lora,loca", "--seeds", "1", "--out", store.root)
    sizes = (
        "--set",
        "lora.r=2",
        "--set",
        "loca.n_frequency=20",
        "--set",
        "train.max_steps=4",
        "--set",
        "train.batch_size=4",
    )
    checked = bench("task", "check", task, "--model", model)
    assert checked.code == 0, checked.err
    assert "frames of 64 x 16 pixels" in checked.out
    assert "reads videos" in checked.out

    result = bench("run", "--no-isolate", *common, *sizes)
    assert result.code == 0, result.err
    assert "2 runs done, 0 failed" in result.out
    for record in store.scan():
        assert record.status == "ok"
        assert record.examples == {"train": 18, "selection": 2, "reported": 8}
        assert record.spec.options["jitter"] is True
        rows = pd.read_parquet(store.runs / record.run_id / "predictions.parquet")
        assert {"example", "label", "prediction", "picture"} <= set(rows)
        with Image.open(io.BytesIO(rows["picture"][0])) as picture:
            assert picture.format == "JPEG"
            assert picture.height == 56
        assert max(map(len, rows["picture"])) < 20_000

    assert "2 runs done" not in bench("run", "--no-isolate", *common, *sizes).out
    report = bench("report", "--out", store.root)
    assert report.code == 0, report.err
    page = next((store.root / "report").glob("*.html")).read_text()
    assert "/9j/" in page  # how a JPEG begins in base 64
    assert "<b>" not in page.split("<style", 1)[1].split("dark ", 1)[-1][:40]


@pytest.mark.parametrize("name", ["hmdb51", *SLOW])
def test_a_check_works_on_the_publishers_files(bench, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    WRITERS[name](tmp_path / "data" / name, TASKS[f"video/{name}"].labels)
    checked = bench("task", "check", f"video/{name}", "--data-root", tmp_path / "data", "--out", tmp_path / "store")
    assert checked.code == 0, checked.err
    assert "3 frames of 64 x 16 pixels" in checked.out
    assert f"local folder {name}, as published, sha256:" in checked.out
    assert "the references against themselves: accuracy 100.0" in checked.out
    assert "leaks: 0 of" in checked.out


def test_a_check_works_on_features_of_videos_with_subtitles(bench, tmp_path):
    value_folder(tmp_path / "data")
    checked = bench("task", "check", "vl/how2qa", "--data-root", tmp_path / "data", "--out", tmp_path / "store")
    assert checked.code == 0, checked.err
    assert "3 segments of 6 numbers" in checked.out
    assert "local folder value, as published, sha256:" in checked.out
    assert "the references against themselves: accuracy 100.0" in checked.out
    assert "leaks: 0 of 4" in checked.out


def test_a_number_of_frames_that_the_model_does_not_take_is_refused_before_anything_is_trained(bench, task, tmp_path):
    model = saved(tmp_path / "vivit", "vivit")
    found = bench(
        *("run", "--no-isolate", "--tasks", task, "--model", model, "--methods", "lora", "--seeds", "1"),
        *("--set", "my/clips.frames=6", "--set", "train.max_steps=2", "--out", tmp_path / "store"),
    )
    assert found.code == 2
    assert "frames is 6, and vivit takes 4 frames only" in found.err


def test_a_model_of_clips_is_profiled_in_frames(bench, tmp_path):
    model = saved(tmp_path / "videomae", "videomae")
    found = bench(
        *("profile", "--model", model, "--methods", "lora", "--batch", "2", "--steps", "1", "--warm-up", "1"),
        *("--rounds", "1", "--out", tmp_path / "profile"),
    )
    assert found.code == 0, found.err
    profile = json.loads((tmp_path / "profile" / "profile.json").read_text())
    assert (profile["frames"], profile["tokens"]) == (4, 1)
    assert "frames" in (tmp_path / "profile" / "profile.md").read_text()
