"""Asks a judge behind an OpenAI-compatible endpoint, by the ``openai`` client."""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.completion import clean, interpret
from parbench.tasks.judge.outcome import Failure, FailureKind, Message, Reply, Sampling
from parbench.tasks.judge.spec import ApiKey, JudgeSpec

# Seconds.
_LOCAL_PATIENCE = 1800.0

# Their debug lines show headers of requests and responses, which may hold the key.
_LOGGERS = ("openai._base_client", "httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "proxy")))

# The operating system's random numbers: those of a run must not depend on how a network behaves.
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Retries:
    """Exponential back-off with jitter.

    Attributes:
        attempts: most requests for one judgment.
        unusable: most requests where the endpoint answers, but with nothing that can be used: an empty reply costs as
            much as any other, and a greedy judge repeats it.
        first_s: seconds to wait after the first failure; doubled after every further one.
        longest_s: seconds at which the doubling ends.
        longest_asked_s: the longest ``Retry-After`` that is obeyed; an endpoint that asks for more has failed.

    Raises:
        UserError: a value is out of range.
    """

    attempts: int = 8
    unusable: int = 3
    first_s: float = 1.0
    longest_s: float = 60.0
    longest_asked_s: float = 300.0

    def __post_init__(self) -> None:
        if min(self.attempts, self.unusable) < 1:
            raise UserError("retries of the judge need at least one attempt")
        if self.first_s < 0 or self.longest_s < self.first_s or self.longest_asked_s < 0:
            raise UserError("waits between attempts to reach the judge must not be negative and must not shrink")

    def allow(self, failure: Failure) -> bool:
        """Return whether another request may follow a failure, which holds the number of requests so far."""
        if (failure.wait_s or 0.0) > self.longest_asked_s:
            return False
        most = self.attempts if failure.kind.passing else self.unusable if failure.kind.unusable else 1
        return failure.attempts < min(most, self.attempts)

    def wait_s(self, failure: Failure) -> float:
        """Return the seconds to wait before the next request.

        Half of it is random, so that requests that failed together do not come back together; what the endpoint asked
        for is a lower bound.
        """
        longest = min(self.longest_s, self.first_s * 2.0 ** (failure.attempts - 1))
        return max(_RANDOM.uniform(longest / 2, longest), failure.wait_s or 0.0)


@dataclass(frozen=True)
class ClientSettings:
    """How an endpoint is asked. Not part of any identity: none of it changes a judgment.

    Attributes:
        connect_s: seconds to connect.
        silent_s: seconds without a byte.
        total_s: seconds for one whole response.
        retries: after a failure that may pass.
        largest_answer: bytes of a response.

    Raises:
        UserError: a value is out of range.
    """

    connect_s: float = 10.0
    silent_s: float = 180.0
    total_s: float = 300.0
    retries: Retries = field(default_factory=Retries)
    largest_answer: int = 4 * 2**20

    def __post_init__(self) -> None:
        if not min(self.connect_s, self.silent_s, self.total_s, self.largest_answer) > 0:
            raise UserError("the judge's time-outs and its largest answer must be above 0")

    @classmethod
    def usual(cls, spec: JudgeSpec) -> Self:
        """Return the defaults; for an endpoint on this machine, which may be slow, with longer time-outs.

        Such a server sends nothing before the judgment is complete.
        """
        return cls(silent_s=_LOCAL_PATIENCE, total_s=_LOCAL_PATIENCE) if spec.local else cls()


class JudgeClient:
    """A judge behind an OpenAI-compatible endpoint. Safe to use from several threads; close it, or use ``with``.

    The key is read from the environment when the client is made (see `ApiKey.from_environment`). It is sent in one
    header, and it is removed from everything that comes back. Redirects are not followed, and a local endpoint is not
    asked through a proxy. The default settings are `ClientSettings.usual`.

    Attempts are counted and waited for here rather than by ``openai``: its own waits cannot be interrupted, and it
    takes an empty or broken completion for a success.

    Raises:
        UserError: the endpoint needs a key and there is none, or ``openai`` is not installed.
    """

    def __init__(self, spec: JudgeSpec, settings: ClientSettings | None = None) -> None:
        try:
            import httpx2
            import openai

            from parbench.tasks.judge.bounded_http import BoundedClient
        except ImportError:
            raise UserError('asking a judge needs openai; install it: pip install "parbench[judge]"') from None
        self.spec = spec
        self.settings = settings or ClientSettings.usual(spec)
        self._key = ApiKey.from_environment(spec)
        self._log_filter = _KeyFilter(self._key)
        self._openai = openai.OpenAI(
            # A client without any key is refused; the header is left out of the request.
            api_key=self._key.reveal() if self._key else "none",
            base_url=spec.url,
            max_retries=0,
            http_client=BoundedClient(
                self.settings.total_s,
                self.settings.largest_answer,
                timeout=httpx2.Timeout(self.settings.silent_s, connect=self.settings.connect_s),
                limits=httpx2.Limits(max_connections=None),
                follow_redirects=False,
                trust_env=not spec.local,
            ),
        )
        # Read from OpenAI's environment variables, whatever the endpoint.
        self._openai.organization = self._openai.project = None
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._log_filter)

    @property
    def model(self) -> str:
        """The judge's model name."""
        return self.spec.model

    def ask(
        self, messages: tuple[Message, ...], sampling: Sampling, stop: threading.Event | None = None
    ) -> Reply | Failure:
        """Return the judge's reply, or the failure that is left after all attempts.

        Never raises for anything that an endpoint or a network does.
        """
        stop = stop or threading.Event()
        retries = self.settings.retries
        failure = Failure(FailureKind.STOPPED, "the judge was not asked any more", attempts=0)
        while not stop.is_set():
            outcome = self._send(messages, sampling)
            if isinstance(outcome, Reply):
                return outcome
            failure = outcome.after(failure.attempts + 1)
            if not retries.allow(failure):
                break
            stop.wait(retries.wait_s(failure))
        return failure

    def close(self) -> None:
        """Close the connections."""
        self._openai.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._log_filter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"JudgeClient({self.spec})"

    def _send(self, messages: tuple[Message, ...], sampling: Sampling) -> Reply | Failure:
        import httpx2
        import openai

        headers: dict[str, Any] = {"User-Agent": "parbench"}
        if self._key is None:
            headers["Authorization"] = openai.omit
        limit: dict[str, Any] = {sampling.limit_name: sampling.max_tokens}
        try:
            # Raw: what is not a completion is reported as a failure, not raised by a parser.
            response = self._openai.chat.completions.with_raw_response.create(
                model=self.spec.model,
                messages=list(messages),  # type: ignore[arg-type]
                n=1,
                temperature=openai.omit if sampling.temperature is None else sampling.temperature,
                extra_headers=headers,
                **limit,
            ).http_response
        except openai.APIStatusError as error:
            response = error.response
        except openai.APITimeoutError as error:
            what = type(error.__cause__).__name__
            return Failure(FailureKind.TIMEOUT, f"the endpoint did not answer in time ({what})")
        except openai.APIConnectionError as error:
            # A broken server's own bytes may be in the error's text.
            what = clean(str(error.__cause__), self._key) or type(error.__cause__).__name__
            if isinstance(error.__cause__, httpx2.DecodingError):
                return Failure(FailureKind.MALFORMED, f"the endpoint's answer cannot be read ({what})")
            return Failure(FailureKind.CONNECTION, f"the connection to the endpoint failed ({what})")
        return interpret(response.status_code, response.headers, response.content, self._key)


class _KeyFilter(logging.Filter):
    """Removes the key from log records."""

    def __init__(self, key: ApiKey | None) -> None:
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        if self._key:
            record.msg, record.args = self._key.redact(record.getMessage()), None
        return True
