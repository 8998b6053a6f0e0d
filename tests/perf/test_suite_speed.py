"""The measurement of the suite keeps what it has, and goes on behind it; times are not tested."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.perf import suite_speed


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stores that were measured, the third of which is interrupted."""
    seen: list[str] = []

    def timed_run(arguments: list[str], tasks: list[str], before: Path | None) -> float:
        seen.append(Path(arguments[-1]).name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return 10.0 if "length_groups=1" in " ".join(arguments) else 4.0

    scores = pd.DataFrame({"method": ["lora"], "task": ["a"], "seed": [1], "metric": ["accuracy"], "score": [0.5]})
    monkeypatch.setattr(suite_speed, "timed_run", timed_run)
    monkeypatch.setattr("parbench.load", lambda store: scores, raising=False)
    return seen


def test_an_interrupted_measurement_goes_on_where_it_was(
    timed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (tmp_path, ["a"], [1, 2], ["old", "new"], False, [])
    with pytest.raises(KeyboardInterrupt):
        suite_speed.measure(*asked)
    assert "| 1 | 1 | 10 | 4 | 0.40 |" in capsys.readouterr().out.splitlines()
    suite_speed.measure(*asked)
    assert timed == ["old 1", "new 1", "old 2", "old 2", "new 2"]
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("| 2 | 1 | 10 | 4 | 0.40 |") == 1
    assert lines[-1].split() == ["lora", "a", "1", "accuracy", "0.5", "0.5"] or "0.5" in lines[-1]
