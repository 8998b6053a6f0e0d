"""Judgments by question, as a task's per-example rows hold them, and by turn, as a summary needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Columns of `judge_answers` with a list of one entry per repeat; a question's row has one such list per turn.
_NESTED = ("ratings", "fastchat_scores", "problems", "errors", "served_models", "text_sha256")


def by_question(judged: pd.DataFrame, answers: Mapping[int, Sequence[str]]) -> pd.DataFrame:
    """Return one row per question, in the order of a frame of `parbench.tasks.judge.judging.judge_answers`.

    Returns:
        ==================  ========================================================================================
        ``category``        the question's
        ``rating``          mean over its rated turns; missing if there is none
        ``rating_turn_1``   mean over the repeats with a rating; likewise ``rating_turn_2``
        ``answers``         the texts that were judged, one per turn
        ``ratings``         by turn, the rating of each repeat, ``None`` where there is none; and likewise
                            ``fastchat_scores``, ``problems``, ``errors``, ``served_models`` and ``text_sha256``
        ==================  ========================================================================================
    """
    import pandas as pd

    rows = []
    for number, turns in judged.groupby("question_id", sort=False):
        by_turn = {f"rating_turn_{turn}": rating for turn, rating in zip(turns["turn"], turns["rating"], strict=True)}
        rows.append(
            {"category": turns["category"].iloc[0], "rating": turns["rating"].mean(), **by_turn}
            | {"answers": list(answers[int(str(number))])}
            | {name: turns[name].tolist() for name in _NESTED}
        )
    return pd.DataFrame(rows)


def by_turn(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per question and turn, for `tasks.judge.summary.summarise`, of rows fresh or read from a file."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"category": row["category"], "turn": turn, "rating": row[f"rating_turn_{turn}"]}
            | {name: row[name][turn - 1] for name in _NESTED}
            for row in rows.to_dict("records")
            for turn in range(1, len(row["answers"]) + 1)
        ]
    )


def turn_columns(rows: pd.DataFrame) -> list[str]:
    """Return the names of the columns with one turn's rating."""
    return sorted(name for name in rows.columns if name.startswith("rating_turn_"))
