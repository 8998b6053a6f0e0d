"""Files in FastChat's layout."""

from __future__ import annotations

import json
from pathlib import Path

from parbench.tasks.judge.prompts import prompt_name


def write_lines(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def judge_prompts(opening: str = "") -> list[dict[str, object]]:
    """Return one prompt of each kind, whose template names all that it is filled with.

    Args:
        opening: what templates begin with; may have ``{name}`` and ``{turn}``, those of the prompt.
    """
    prompts: list[dict[str, object]] = []
    for kind, answers, verdict in (
        ("single", ("answer",), "[[rating]]"),
        ("pairwise", ("answer_a", "answer_b"), "[[A]]"),
    ):
        for reference in (False, True):
            for turn, suffixes in ((1, ("",)), (2, ("_1", "_2"))):
                fields = [f"{what}{suffix}" for suffix in suffixes for what in ("question", *answers)]
                fields += [f"ref_answer_{place}" for place in range(1, turn + 1)] if reference else []
                name = prompt_name(kind, turn, reference)
                prompts.append(
                    {
                        "name": name,
                        "type": kind,
                        "system_prompt": f"judge by {name}",
                        "prompt_template": opening.format(name=name, turn=turn) + "|".join(f"{{{f}}}" for f in fields),
                        "output_format": verdict,
                    }
                )
    return prompts
