"""The measurement of clips reads all of them in every way; times are not tested."""

from __future__ import annotations

import re
import sys

import pytest

from tests.perf import clip_loading


def test_every_way_of_reading_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["clip_loading", "--clips", "3", "--frames", "5", "--sampled", "2"])
    clip_loading.main()
    lines = capsys.readouterr().out.splitlines()
    measured = lines[1:-1]
    names = ["writing", "evaluation, first time", "evaluation, kept frames", "training with jitter"]
    assert [line.partition(":")[0] for line in measured] == names
    assert all(re.search(r": [\d.]+ ms of CPU a clip, [\d.]+ ms by the clock, [+-]\d+ MiB", line) for line in measured)
    assert lines[-1].startswith("kept on the disk: ")
