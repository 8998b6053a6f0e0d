"""The chat-completions format: what is sent, and what an endpoint's answer means."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from parbench.tasks.judge.outcome import Failure, FailureKind, Message, Reply, Sampling
from parbench.tasks.judge.spec import ApiKey

# Of an endpoint's own error message.
SHOWN = 300

_BY_STATUS = {
    401: FailureKind.UNAUTHORISED,
    402: FailureKind.QUOTA,
    403: FailureKind.UNAUTHORISED,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    409: FailureKind.SERVER,
    425: FailureKind.SERVER,
    429: FailureKind.RATE_LIMIT,
}


def payload(model: str, messages: tuple[Message, ...], sampling: Sampling) -> dict[str, Any]:
    """Return the request's body: the fields that FastChat sends."""
    body: dict[str, Any] = {"model": model, "messages": list(messages), "n": 1}
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    return {**body, sampling.limit_name: sampling.max_tokens}


def interpret(status: int, headers: Mapping[str, str], body: bytes, key: ApiKey | None) -> Reply | Failure:
    """Return what an HTTP response means. ``headers`` must look names up whatever their case."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if 200 <= status < 300:
        if isinstance(content, dict) and content.get("error"):
            # Some gateways report an error of the model behind them with status 200.
            return _error(_inner_status(content), headers, content, key)
        return _reply(content, key)
    return _error(status, headers, content, key)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, given as seconds or as a date; ``None`` without a usable one."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _reply(content: Any, key: ApiKey | None) -> Reply | Failure:
    try:
        choice = content["choices"][0]
        message = choice["message"]
        text, refusal, reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        usage = content.get("usage") or {}
        served = content.get("model")
        tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (TypeError, KeyError, IndexError, AttributeError):
        return Failure(FailureKind.MALFORMED, "the endpoint's answer is not a chat completion")
    if refusal or reason == "content_filter":
        why = clean(str(refusal), key) if refusal else "by its content filter"
        return Failure(FailureKind.REFUSED, f"the judge refuses to answer: {why}")
    if text is not None and not isinstance(text, str):
        return Failure(FailureKind.MALFORMED, "the text of the endpoint's answer is no text")
    if text is None or not text.strip():
        if reason == "length":
            return Failure(FailureKind.OUT_OF_TOKENS, "the judge used up max_tokens before it wrote any text")
        return Failure(FailureKind.EMPTY, "the judge's answer is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Failure(FailureKind.MALFORMED, "the text of the endpoint's answer is not Unicode")
    return Reply(
        key.redact(text) if key else text,
        clean(reason, key) if isinstance(reason, str) else None,
        clean(served, key) if isinstance(served, str) else None,
        *(count if isinstance(count, int) else None for count in tokens),
    )


def _error(status: int, headers: Mapping[str, str], content: Any, key: ApiKey | None) -> Failure:
    error = content.get("error") if isinstance(content, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if code == "insufficient_quota":
        kind = FailureKind.QUOTA
    elif code == "content_filter":
        kind = FailureKind.REFUSED
    elif 300 <= status < 400:
        # Not followed: the key is meant for the endpoint named and no other.
        return Failure(FailureKind.NOT_FOUND, f"the endpoint sends elsewhere ({status}); name the final address")
    else:
        kind = _BY_STATUS.get(status, FailureKind.SERVER if status >= 500 else FailureKind.REJECTED)
    said = _said(content)
    # What is said of a refused key is said about the key, often with a part of it.
    shown = f": {clean(said, key)}" if said and kind is not FailureKind.UNAUTHORISED else ""
    return Failure(kind, f"the endpoint answers {status}{shown}", wait_s=retry_after(headers))


def _said(content: Any) -> str | None:
    """Return an endpoint's error message: OpenAI's form, or the flat ones of other servers."""
    if not isinstance(content, dict):
        return None
    error = content.get("error")
    found = [error.get("message")] if isinstance(error, dict) else [error]
    return next(
        (text for text in (*found, content.get("message"), content.get("detail")) if isinstance(text, str)), None
    )


def _inner_status(content: dict[str, Any]) -> int:
    error = content["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def clean(text: str, key: ApiKey | None) -> str:
    """Return a message fit to be shown: one line, without the key, cut only after the key is out of it."""
    line = " ".join(text.encode(errors="replace").decode().split())
    line = key.redact_pieces(line) if key else line
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."
