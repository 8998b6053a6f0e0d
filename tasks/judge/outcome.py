"""What a judge is asked, and its reply or a failure of a known kind."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

from parbench.bench.util.errors import UserError

# A chat message: "role" and "content".
Message = dict[str, str]


@dataclass(frozen=True)
class Sampling:
    """How a judge writes. The defaults are FastChat's (``run_judge_single``): greedy, at most 2,048 tokens.

    Attributes:
        temperature: ``None`` leaves it out of the request, for models that accept none.
        max_tokens: at most so many tokens.
        limit_name: the request's name for ``max_tokens``; newer models know the second only.

    Raises:
        UserError: a value is out of range.
    """

    temperature: float | None = 0.0
    max_tokens: int = 2048
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def __post_init__(self) -> None:
        if self.temperature is not None:
            if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 2):
                raise UserError(f"the judge's temperature is {self.temperature}; give a number from 0 to 2")
            # 0 and 0.0 are one setting and must have one hash.
            object.__setattr__(self, "temperature", float(self.temperature))
        if self.max_tokens < 1:
            raise UserError(f"the judge may write {self.max_tokens} tokens; give at least 1")


@dataclass(frozen=True)
class Inquiry:
    """One request for a judgment.

    Attributes:
        judge: the judge's model name. The endpoint is not part of it: the same model is the same judge anywhere.
        messages: the whole prompt.
        sampling: how the judge writes.
        repeat: 0 for the first judgment, 1 for the second of the same prompt, ...
    """

    judge: str
    messages: tuple[Message, ...]
    sampling: Sampling
    repeat: int = 0

    def identity(self) -> dict[str, Any]:
        """Return what determines the judgment, ready for JSON."""
        return {
            "judge": self.judge,
            "messages": list(self.messages),
            "sampling": asdict(self.sampling),
            "repeat": self.repeat,
        }

    @property
    def key(self) -> str:
        """SHA-256 of the identity: what the judgment is cached under."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What a judge wrote.

    Attributes:
        text: verbatim, except that an API key echoed by the endpoint is removed.
        finish_reason: as reported by the endpoint, usually ``stop`` or ``length``.
        served_model: the model that the endpoint reports: often a dated version of the one asked for.
        prompt_tokens: as counted by the endpoint, if it does.
        completion_tokens: likewise.
    """

    text: str
    finish_reason: str | None = None
    served_model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class FailureKind(StrEnum):
    """Why there is no reply."""

    CONNECTION = "connection"
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    SERVER = "server"
    MALFORMED = "malformed"
    EMPTY = "empty"
    OUT_OF_TOKENS = "out_of_tokens"
    REFUSED = "refused"
    REJECTED = "rejected"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    QUOTA = "quota"
    STOPPED = "stopped"

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self in _PASSING

    @property
    def unusable(self) -> bool:
        """Whether the endpoint answered with something that holds no judgment; another request may help."""
        return self in _UNUSABLE

    @property
    def fatal(self) -> bool:
        """Whether every other request will fail as well."""
        return self in _FATAL

    @property
    def doubtful(self) -> bool:
        """Whether it is of this prompt alone if the judge ever answers another one, and of the endpoint if not."""
        return self in _UNUSABLE or self is FailureKind.FORBIDDEN


_PASSING = frozenset(
    {
        FailureKind.CONNECTION,
        FailureKind.TIMEOUT,
        FailureKind.RATE_LIMIT,
        FailureKind.SERVER,
    }
)
_UNUSABLE = frozenset({FailureKind.MALFORMED, FailureKind.EMPTY})
_FATAL = frozenset({FailureKind.UNAUTHORISED, FailureKind.NOT_FOUND, FailureKind.QUOTA})


@dataclass(frozen=True)
class Failure:
    """A judgment that is missing. Never cached: the next command asks again.

    Attributes:
        kind: what kind of failure.
        message: what happened, without the key.
        attempts: requests sent.
        wait_s: seconds that the endpoint asked to wait, if it did.
    """

    kind: FailureKind
    message: str
    attempts: int = 1
    wait_s: float | None = None

    def after(self, attempts: int) -> Failure:
        """Return the same failure, with the number of requests sent."""
        return replace(self, attempts=attempts)


class Judge(Protocol):
    """Anything that judges: `JudgeClient`, `InProcessJudge`, or a stand-in."""

    @property
    def model(self) -> str:
        """The name that judgments are cached and reported under."""

    def ask(self, messages: tuple[Message, ...], sampling: Sampling, stop: threading.Event) -> Reply | Failure:
        """Return the reply to a prompt, or why there is none. Called from several threads.

        Once ``stop`` is set, no more requests are sent and waits between attempts end.
        """
