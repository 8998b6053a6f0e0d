"""Pairwise comparison of two models' answers, each pair shown in both orders, as FastChat's ``--mode pairwise-*``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.tasks.judge.asking import JudgeSettings, JudgmentProgress, ask_all
from parbench.tasks.judge.cache import JudgmentCache
from parbench.tasks.judge.outcome import Failure, Inquiry, Judge, Message, Reply
from parbench.tasks.judge.prompts import pair_fields, prompt_name
from parbench.tasks.judge.questions import QuestionSet, check_answers
from parbench.tasks.judge.verdict import PairVerdict, fastchat_pair, parse_pair

if TYPE_CHECKING:
    import pandas as pd

# The winner of a verdict, when the answers stand as given and when they are swapped.
_AS_GIVEN = {PairVerdict.A: "a", PairVerdict.B: "b", PairVerdict.TIE: "tie"}
_SWAPPED = {PairVerdict.A: "b", PairVerdict.B: "a", PairVerdict.TIE: "tie"}


def compare_answers(
    questions: QuestionSet,
    answers_a: Mapping[int, Sequence[str]],
    answers_b: Mapping[int, Sequence[str]],
    judge: Judge,
    settings: JudgeSettings,
    cache_folder: Path,
    progress: JudgmentProgress | None = None,
) -> pd.DataFrame:
    """Have the answers of two models compared; parameters as for `judge_answers`.

    Returns:
        One row per question, turn and repeat:

        ==================  ========================================================================================
        ``question_id``     FastChat's number
        ``category``        the question's
        ``turn``            1 or 2
        ``repeat``          from 0
        ``prompt``          name of the judge prompt
        ``as_given``        the winner when model a's answer stands first: ``a``, ``b``, ``tie``; missing without a
                            verdict
        ``swapped``         the winner when model b's answer stands first
        ``winner``          ``a``, ``b`` or ``tie``; verdicts that differ between the orders are a tie, as in
                            FastChat; missing if one of the two is
        ``consistent``      whether the two orders agree; missing likewise
        ``fastchat``        the winner in each order as FastChat reads the judgment; ``None`` without a verdict
        ``problems``        for each order: empty, ``unparsable``, or a `FailureKind`
        ``errors``          for each order: the failure's message, or empty
        ``served_models``   the model that the endpoint reports, for each order
        ``text_sha256``     hash of each raw judgment, ``None`` for a failure
        ==================  ========================================================================================

    Raises:
        UserError: as `judge_answers`.
    """
    import pandas as pd

    check_answers(questions, answers_a)
    check_answers(questions, answers_b)
    places, inquiries = [], []
    for place, both in _comparisons(questions, answers_a, answers_b):
        for repeat in range(settings.repeats):
            places.append({**place, "repeat": repeat})
            inquiries += [Inquiry(judge.model, messages, settings.sampling, repeat) for messages in both]
    outcomes = ask_all(inquiries, judge, settings, JudgmentCache(cache_folder), progress)
    verdicts = [_compared(*outcomes[2 * row : 2 * row + 2]) for row in range(len(places))]
    # As objects: a frame would make a missing verdict a number.
    columns = {name: pd.Series([row[name] for row in verdicts], dtype=object) for name in verdicts[0]}
    return pd.DataFrame(places, columns=["question_id", "category", "turn", "repeat", "prompt"]).assign(**columns)


def _comparisons(
    questions: QuestionSet, answers_a: Mapping[int, Sequence[str]], answers_b: Mapping[int, Sequence[str]]
) -> Iterator[tuple[dict[str, Any], list[tuple[Message, ...]]]]:
    """Yield what names each turn of each question, and the messages that show its answers in either order."""
    for question in questions.questions:
        first, second = answers_a[question.question_id], answers_b[question.question_id]
        for turn in range(1, len(question.turns) + 1):
            name = prompt_name("pairwise", turn, bool(question.reference))
            place = {"question_id": question.question_id, "category": question.category, "turn": turn, "prompt": name}
            yield (
                place,
                [
                    questions.prompts[name].messages(pair_fields(question.turns, *order, question.reference, turn))
                    for order in ((first, second), (second, first))
                ],
            )


@dataclass(frozen=True)
class PairSummary:
    """Wins of model a over model b, over the rows of `compare_answers`.

    Attributes:
        wins: comparisons that a wins in both orders.
        ties: comparisons with a tie in an order, and inconsistent ones.
        losses: comparisons that b wins in both orders.
        inconsistent: those of the ties in which the two orders disagree.
        undecided: comparisons of which a verdict is missing; in none of the above.
        unparsable: judgments without a verdict.
        failed: judgments that are missing.
        read_otherwise: judgments in which FastChat reads another verdict, or one where there is none.
    """

    wins: int
    ties: int
    losses: int
    inconsistent: int
    undecided: int
    unparsable: int
    failed: int
    read_otherwise: int

    @property
    def win_rate(self) -> float | None:
        """Wins by decided comparisons; ``None`` if there are none. FastChat's ``win_rate``."""
        return self._share(self.wins)

    @property
    def loss_rate(self) -> float | None:
        """Losses by decided comparisons. FastChat's ``loss_rate``."""
        return self._share(self.losses)

    @property
    def win_rate_adjusted(self) -> float | None:
        """The win rate with a tie as half a win. FastChat's ``win_rate_adjusted``."""
        return self._share(self.wins + 0.5 * self.ties)

    def _share(self, count: float) -> float | None:
        decided = self.wins + self.ties + self.losses
        return count / decided if decided else None


def summarise_pairs(compared: pd.DataFrame) -> PairSummary:
    """Return the counts of a frame of `compare_answers`."""
    problems = [problem for row in compared["problems"] for problem in row if problem]
    winners = list(compared["winner"])
    unparsable = problems.count("unparsable")
    return PairSummary(
        wins=winners.count("a"),
        ties=winners.count("tie"),
        losses=winners.count("b"),
        inconsistent=list(compared["consistent"]).count(False),
        undecided=int(compared["winner"].isna().sum()),
        unparsable=unparsable,
        failed=len(problems) - unparsable,
        read_otherwise=_read_otherwise(compared),
    )


def _read_otherwise(compared: pd.DataFrame) -> int:
    if "fastchat" not in compared:  # rows that were written before it was kept
        return 0
    rows = compared[["as_given", "swapped", "fastchat"]].to_numpy().tolist()
    # A frame that was in a file may have NaN where there was None.
    return sum(
        (ours if isinstance(ours, str) else None) != theirs
        for *winners, row in rows
        for ours, theirs in zip(winners, row, strict=True)
    )


def _compared(as_given: Reply | Failure, swapped: Reply | Failure) -> dict[str, Any]:
    both = (as_given, swapped)
    first, first_problem = _winner(as_given, _AS_GIVEN)
    second, second_problem = _winner(swapped, _SWAPPED)
    decided = first is not None and second is not None
    return {
        "as_given": first,
        "swapped": second,
        "winner": (first if first == second else "tie") if decided else None,
        "consistent": first == second if decided else None,
        "fastchat": [
            meaning.get(fastchat_pair(outcome.text)) if isinstance(outcome, Reply) else None
            for outcome, meaning in ((as_given, _AS_GIVEN), (swapped, _SWAPPED))
        ],
        "problems": [first_problem, second_problem],
        "errors": [outcome.message if isinstance(outcome, Failure) else "" for outcome in both],
        "served_models": [outcome.served_model if isinstance(outcome, Reply) else None for outcome in both],
        "text_sha256": [outcome.sha256 if isinstance(outcome, Reply) else None for outcome in both],
    }


def _winner(outcome: Reply | Failure, meaning: Mapping[PairVerdict, str]) -> tuple[str | None, str]:
    if isinstance(outcome, Failure):
        return None, str(outcome.kind)
    verdict = parse_pair(outcome.text)
    return meaning.get(verdict), "unparsable" if verdict is PairVerdict.ERROR else ""
