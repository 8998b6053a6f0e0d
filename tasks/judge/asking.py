"""Sends many inquiries to a judge at once, through the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.cache import JudgmentCache
from parbench.tasks.judge.outcome import Failure, FailureKind, Inquiry, Judge, Reply, Sampling

# Called with the number of judgments so far, and of all.
JudgmentProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class JudgeSettings:
    """How answers are judged.

    Attributes:
        repeats: judgments of every prompt; all are kept. A judge may vary even at temperature 0.
        sampling: how the judge writes.
        concurrency: requests at a time.
        give_up_after: inquiries in a row that fail after all attempts, after which the endpoint counts as down.

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
        """Return the settings that change the judgments, for a record."""
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
    progress: JudgmentProgress | None = None,
) -> list[Reply | Failure]:
    """Return the outcome of each inquiry, from the cache where it is there; every new reply is kept at once.

    When this ends early, by Ctrl-C or by an error, no more requests are sent; those under way are waited for and their
    replies kept, since they are paid for.

    Raises:
        UserError: the judge cannot be asked at all (key refused, no such model, no quota, endpoint down), or the cache
            cannot be used. A 403 that does not name the key, and replies that cannot be used, count as such only while
            the judge has answered nothing, now or in the cache.
    """
    outcomes: dict[str, Reply | Failure] = {}
    open_inquiries = {}
    for inquiry in inquiries:
        kept = cache.get(inquiry)
        if kept is None:
            open_inquiries[inquiry.key] = inquiry
        else:
            outcomes[inquiry.key] = kept
    if progress:
        progress(len(outcomes), len(outcomes) + len(open_inquiries))
    if open_inquiries:
        _ask(open_inquiries, judge, settings, cache, outcomes, progress)
    return [outcomes[inquiry.key] for inquiry in inquiries]


def _ask(
    open_inquiries: dict[str, Inquiry],
    judge: Judge,
    settings: JudgeSettings,
    cache: JudgmentCache,
    outcomes: dict[str, Reply | Failure],
    progress: JudgmentProgress | None,
) -> None:
    watch = _Watch(settings.give_up_after, kept=len(outcomes))
    total = len(outcomes) + len(open_inquiries)

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
            if progress:
                progress(len(outcomes), total)
    finally:
        watch.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    if failure := watch.verdict():
        # A run is tried again only if the cause may pass.
        raise UserError(
            f"the judge {judge.model} cannot be asked: {failure.message} ({failure.kind}, attempt {failure.attempts}); "
            f"fix it and run again: {watch.answered} judgments are kept and will not be asked again"
        ) from (ConnectionError(failure.message) if failure.kind.passing else None)


class _Watch:
    """Sees every outcome, in the thread that receives it, and stops all once the endpoint counts as down.

    Args:
        give_up_after: see `JudgeSettings`.
        kept: replies that are in the cache already.
    """

    def __init__(self, give_up_after: int, kept: int) -> None:
        self.stop = threading.Event()
        self.answered = kept
        self._give_up_after = give_up_after
        self._last_straw: Failure | None = None
        self._forbidden: Failure | None = None
        self._failed_in_a_row = 0
        self._lock = threading.Lock()

    def see(self, outcome: Reply | Failure) -> None:
        """Take note of an outcome."""
        with self._lock:
            if isinstance(outcome, Reply):
                self.answered += 1
                self._failed_in_a_row = 0
                return
            kind = outcome.kind
            if kind is FailureKind.FORBIDDEN:
                self._forbidden = outcome
            may_be_down = kind.passing or (kind.doubtful and not self.answered)
            self._failed_in_a_row = self._failed_in_a_row + 1 if may_be_down else 0
            if self._last_straw is None and (kind.fatal or self._failed_in_a_row >= self._give_up_after):
                self._last_straw = outcome
                self.stop.set()

    def verdict(self) -> Failure | None:
        """Return the failure by which the judge cannot be asked at all, once there are no more outcomes."""
        return self._last_straw or (None if self.answered else self._forbidden)
