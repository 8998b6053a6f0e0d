"""When a request may be sent: a rate, the endpoint's own wishes, and growing waits after failures."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

from parbench.bench.util.errors import UserError

# The operating system's numbers: a run's seeded ones are not to be touched by how a network behaves.
_RANDOM = random.SystemRandom()


class Clock:
    """Time, and waiting; tests bring their own."""

    def now(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, but no longer than until ``stop`` is set."""
        stop.wait(seconds)


@dataclass(frozen=True)
class Retries:
    """Exponential back-off with jitter.

    Attributes:
        attempts: requests sent at most for one judgment.
        first_s: seconds to wait after the first failure; doubled after every further one.
        longest_s: seconds that the doubling ends at.
        longest_asked_s: the longest ``Retry-After`` that is obeyed; an endpoint that asks for more has failed.

    Raises:
        UserError: a value is out of range.
    """

    attempts: int = 8
    first_s: float = 1.0
    longest_s: float = 60.0
    longest_asked_s: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_s < 0 or self.longest_s < self.first_s or self.longest_asked_s < 0:
            raise UserError("retries of the judge need at least one attempt, and waits that are not negative and grow")

    def wait(self, failures: int, asked: float | None) -> float:
        """Return the seconds to wait after so many failures of one request, at least 1.

        Half of it is random, so that requests that failed together do not come back together; what the endpoint
        asked for is a lower bound.
        """
        longest = min(self.longest_s, self.first_s * 2.0 ** (failures - 1))
        return max(_RANDOM.uniform(longest / 2, longest), asked or 0.0)


class Pace:
    """Hands out the moments at which requests may be sent, evenly spaced; for all threads together."""

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        if per_minute is not None and not per_minute > 0:
            raise UserError(f"the judge may be asked {per_minute} times a minute; give a number above 0, or none")
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock.now()

    def turn(self, stop: threading.Event) -> None:
        """Wait for the next moment."""
        with self._lock:
            now = self._clock.now()
            mine = max(now, self._next)
            self._next = mine + self._interval
        if mine > now:
            self._clock.sleep(mine - now, stop)

    def hold(self, seconds: float) -> None:
        """Let nobody send for so long: the endpoint has had enough of all of us, not of one request."""
        with self._lock:
            self._next = max(self._next, self._clock.now() + seconds)
