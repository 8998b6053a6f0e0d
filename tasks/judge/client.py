"""Asks a judge over HTTP, patiently."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.outcome import Failure, FailureKind, Message, Reply, Sampling
from parbench.tasks.judge.pace import Clock, Pace, Retries
from parbench.tasks.judge.spec import ApiKey, JudgeSpec
from parbench.tasks.judge.wire import clean, interpret, payload

if TYPE_CHECKING:
    import httpx2

# Seconds.
_LOCAL_PATIENCE = 1800.0

# What the HTTP library logs with: its debug lines show the headers of a response, which may echo the key.
_LOGGERS = ("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy", "httpcore2.socks")


@dataclass(frozen=True)
class ClientSettings:
    """How an endpoint is treated; no part of any identity, for it changes no judgment.

    Attributes:
        connect_s: seconds to connect.
        silent_s: seconds without a byte.
        total_s: seconds for one whole answer, however busily it drips.
        requests_per_minute: at most so many, over all threads; ``None`` for no limit of our own.
        retries: what is done after a failure that may pass.
        largest_answer: bytes.
    """

    connect_s: float = 10.0
    silent_s: float = 180.0
    total_s: float = 300.0
    requests_per_minute: float | None = None
    retries: Retries = field(default_factory=Retries)
    largest_answer: int = 4 * 2**20

    def __post_init__(self) -> None:
        if not min(self.connect_s, self.silent_s, self.total_s, self.largest_answer) > 0:
            raise UserError("the judge's time-outs and its largest answer must be above 0")

    @classmethod
    def usual(cls, spec: JudgeSpec) -> Self:
        """Return the defaults; for a model on this machine, which may be slow, with patience.

        Such a server sends nothing before it has written all.
        """
        return cls(silent_s=_LOCAL_PATIENCE, total_s=_LOCAL_PATIENCE) if spec.local else cls()


class JudgeClient:
    """A judge behind an OpenAI-compatible endpoint. Safe to use from several threads; close it, or use ``with``.

    The key is read from the environment when the client is made (see `ApiKey.from_environment`). It goes into one
    header and nowhere else: everything that comes back is searched for it. Redirects are not followed, and a local
    endpoint is not asked through a proxy. Without settings it is treated by `ClientSettings.usual`.

    Raises:
        UserError: the endpoint needs a key and there is none, or there is no HTTP library.
    """

    def __init__(self, spec: JudgeSpec, settings: ClientSettings | None = None, clock: Clock | None = None) -> None:
        try:
            import httpx2
        except ImportError:
            raise UserError('asking a judge needs httpx2; install it: pip install "parbench[judge]"') from None
        self.spec = spec
        self.settings = settings or ClientSettings.usual(spec)
        self._clock = clock or Clock()
        self._pace = Pace(self.settings.requests_per_minute, self._clock)
        self._key = ApiKey.from_environment(spec)
        self._log_filter = _KeyFilter(self._key)
        headers = {"User-Agent": "parbench"}
        # One expression, so that no frame of a traceback has the header as a variable.
        self._http = httpx2.Client(
            headers={**headers, "Authorization": self._key.header()} if self._key else headers,
            timeout=httpx2.Timeout(self.settings.silent_s, connect=self.settings.connect_s),
            limits=httpx2.Limits(max_connections=None),
            follow_redirects=False,
            trust_env=not spec.local,
        )
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._log_filter)

    @property
    def model(self) -> str:
        """The judge's model name."""
        return self.spec.model

    def ask(
        self, messages: tuple[Message, ...], sampling: Sampling, stop: threading.Event | None = None
    ) -> Reply | Failure:
        """Return the judge's reply, or what went wrong for good: after all attempts, or at once where none would help.

        Never raises for anything that an endpoint or a network does.
        """
        stop = stop or threading.Event()
        retries = self.settings.retries
        failure = Failure(FailureKind.STOPPED, "the judge was not asked any more", attempts=0)
        for attempt in range(1, retries.attempts + 1):
            self._pace.turn(stop)
            if stop.is_set():
                break
            outcome = self._send(messages, sampling)
            if isinstance(outcome, Reply):
                return outcome
            failure = outcome.after(attempt)
            if not failure.kind.passing or (failure.wait_s or 0.0) > retries.longest_asked_s:
                break
            if attempt < retries.attempts:
                self._wait(failure, attempt, stop)
        return failure

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
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

    def _wait(self, failure: Failure, attempt: int, stop: threading.Event) -> None:
        seconds = self.settings.retries.wait(attempt, failure.wait_s)
        if failure.kind is FailureKind.RATE_LIMIT:
            self._pace.hold(seconds)
        else:
            self._clock.sleep(seconds, stop)

    def _send(self, messages: tuple[Message, ...], sampling: Sampling) -> Reply | Failure:
        import httpx2

        body = payload(self.spec.model, messages, sampling)
        try:
            with self._http.stream("POST", f"{self.spec.url.rstrip('/')}/chat/completions", json=body) as response:
                content = self._read(response)
        except httpx2.TimeoutException as error:
            return Failure(FailureKind.TIMEOUT, f"the endpoint did not answer in time ({type(error).__name__})")
        except httpx2.DecodingError:
            return Failure(FailureKind.MALFORMED, "the endpoint's answer cannot be decompressed")
        except httpx2.RequestError as error:
            # A broken server's own bytes may be in the error's text.
            what = clean(str(error), self._key) or type(error).__name__
            return Failure(FailureKind.CONNECTION, f"the connection to the endpoint failed ({what})")
        if isinstance(content, Failure):
            return content
        return interpret(response.status_code, response.headers, content, self._key)

    def _read(self, response: httpx2.Response) -> bytes | Failure:
        end = self._clock.now() + self.settings.total_s
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > self.settings.largest_answer:
                return Failure(FailureKind.MALFORMED, "the endpoint's answer is too long for a judgment")
            if self._clock.now() > end:
                return Failure(FailureKind.TIMEOUT, "the endpoint did not finish its answer in time")
        return bytes(content)


class _KeyFilter(logging.Filter):
    """Takes the key out of what the HTTP library logs."""

    def __init__(self, key: ApiKey | None) -> None:
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        if self._key:
            record.msg, record.args = self._key.redact(record.getMessage()), None
        return True
