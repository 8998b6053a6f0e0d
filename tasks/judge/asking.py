"""Puts many inquiries to a judge at once, through the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.cache import JudgmentCache
from parbench.tasks.judge.outcome import Failure, Inquiry, Judge, Reply, Sampling

# Is told how many judgments there are by now, and how many there will be.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class JudgeSettings:
    """How answers are judged.

    Attributes:
        repeats: judgments of every prompt; all are kept. A judge is not always of one mind, even at temperature 0.
        sampling: how the judge writes.
        concurrency: inquiries under way at a time.
        give_up_after: so many inquiries in a row that fail for good after all attempts mean that the endpoint is down.

    Raises:
        UserError: a value is out of range.
    """

    repeats: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    concurrency: int = 4
    give_up_after: int = 5

    def __post_init__(self) -> None:
        for name in ("repeats", "concurrency", "give_up_after"):
            if getattr(self, name) < 1:
                raise UserError(f"the judge's {name} is {getattr(self, name)}; give at least 1")

    def identity(self) -> dict[str, Any]:
        """Return what of the settings changes the judgments, for a record."""
        sampling = self.sampling
        return {
            "repeats": self.repeats,
            "temperature": sampling.temperature,
            sampling.limit_name: sampling.max_tokens,
        }


def ask_all(
    inquiries: Sequence[Inquiry],
    judge: Judge,
    settings: JudgeSettings,
    cache: JudgmentCache,
    progress: Progress | None = None,
) -> list[Reply | Failure]:
    """Return what comes of each inquiry, from the cache where it is there; every new reply is kept at once.

    When this ends early, by Ctrl-C or by an error, nothing new is asked; what is under way is waited for and kept,
    since it is paid for.

    Raises:
        UserError: the judge cannot be asked at all (key refused, no such model, no quota, endpoint down), or the cache
            cannot be used.
    """
    outcomes: dict[str, Reply | Failure] = {}
    open_inquiries = {}
    for inquiry in inquiries:
        kept = cache.get(inquiry)
        if kept is None:
            open_inquiries[inquiry.key] = inquiry
        else:
            outcomes[inquiry.key] = kept
    report = progress or _silent
    report(len(outcomes), len(outcomes) + len(open_inquiries))
    if open_inquiries:
        _ask(open_inquiries, judge, settings, cache, outcomes, report)
    return [outcomes[inquiry.key] for inquiry in inquiries]


def _ask(
    open_inquiries: dict[str, Inquiry],
    judge: Judge,
    settings: JudgeSettings,
    cache: JudgmentCache,
    outcomes: dict[str, Reply | Failure],
    report: Progress,
) -> None:
    watch = _Watch(settings.give_up_after)
    kept = len(outcomes)
    total = kept + len(open_inquiries)

    def one(inquiry: Inquiry) -> Reply | Failure:
        outcome = judge.ask(inquiry.messages, inquiry.sampling, watch.stop)
        if isinstance(outcome, Reply):
            cache.put(inquiry, outcome)
        watch.see(outcome)
        return outcome

    pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="judge")
    try:
        futures: dict[Future[Reply | Failure], str] = {
            pool.submit(one, inquiry): key for key, inquiry in open_inquiries.items()
        }
        for future in as_completed(futures):
            outcomes[futures[future]] = future.result()
            report(len(outcomes), total)
    finally:
        watch.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    if watch.last_straw is not None:
        failure = watch.last_straw
        # By its cause, whoever does runs tells what may be tried again.
        raise UserError(
            f"the judge {judge.model} cannot be asked: {failure.message} ({failure.kind}, attempt {failure.attempts}); "
            f"mend it and run again: {kept + watch.replies} judgments are kept and will not be asked again"
        ) from (ConnectionError(failure.message) if failure.kind.passing else None)


class _Watch:
    """Sees every outcome, in the thread that it comes to, and stops all when there is no hope left."""

    def __init__(self, give_up_after: int) -> None:
        self.stop = threading.Event()
        self.replies = 0
        self.last_straw: Failure | None = None
        self._give_up_after = give_up_after
        self._failed_in_a_row = 0
        self._lock = threading.Lock()

    def see(self, outcome: Reply | Failure) -> None:
        """Take note of an outcome."""
        with self._lock:
            if isinstance(outcome, Reply):
                self.replies += 1
                self._failed_in_a_row = 0
                return
            self._failed_in_a_row = self._failed_in_a_row + 1 if outcome.kind.passing else 0
            if self.last_straw is None and (outcome.kind.fatal or self._failed_in_a_row >= self._give_up_after):
                self.last_straw = outcome
                self.stop.set()


def _silent(done: int, total: int) -> None:
    """Nobody wants to know."""
