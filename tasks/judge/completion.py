"""What an endpoint's response means: the chat-completions format, and the errors of several servers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from parbench.tasks.judge.outcome import Failure, FailureKind, Reply
from parbench.tasks.judge.spec import ApiKey

# Most letters of an endpoint's error message that are shown.
SHOWN = 300

_BY_STATUS = {
    401: FailureKind.UNAUTHORISED,
    402: FailureKind.QUOTA,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    409: FailureKind.SERVER,
    425: FailureKind.SERVER,
    429: FailureKind.RATE_LIMIT,
}

# A 403 is used for a key without permission as well as for a prompt that a moderation flags.
_OF_THE_PROMPT = re.compile(r"flagged|moderat|content.?(filter|polic|management)|safety|harmful|inappropriate", re.I)
_OF_THE_KEY = re.compile(
    r"api.?key|credential|authenti|authori[sz]|permission|account|quota|billing|balance|country|region", re.I
)

# Reasons with which servers end a reply that their filters have emptied.
_FILTERED = re.compile(r"content_?filter|safety|prohibited|blocklist|refusal|sensitive", re.I)


def interpret(status: int, headers: Mapping[str, str], body: bytes, key: ApiKey | None) -> Reply | Failure:
    """Return what an HTTP response means. ``headers`` must ignore the case of names."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not 200 <= status < 300:
        return _error(status, headers, content, key)
    if isinstance(content, dict) and content.get("error"):
        # Some gateways report an error of the model behind them with status 200.
        return _error(_inner_status(content), headers, content, key)
    return _reply(content, key)


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


def clean(text: str, key: ApiKey | None) -> str:
    """Return a message that can be shown: one line, without the key, and cut only after the key is removed."""
    line = " ".join(text.encode(errors="replace").decode().split())
    line = key.redact_pieces(line) if key else line
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def _reply(content: Any, key: ApiKey | None) -> Reply | Failure:
    choices = content.get("choices") if isinstance(content, dict) else None
    if choices == []:
        return Failure(FailureKind.EMPTY, "the endpoint's answer holds no choice")
    choice = choices[0] if isinstance(choices, list) else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Failure(FailureKind.MALFORMED, "the endpoint's answer is not a chat completion")
    refusal, reason = message.get("refusal"), choice.get("finish_reason")
    if refusal or (isinstance(reason, str) and _FILTERED.match(reason)):
        why = clean(str(refusal), key) if refusal else "by its content filter"
        return Failure(FailureKind.REFUSED, f"the judge refuses to answer: {why}")
    text = _text(message.get("content"))
    if isinstance(text, Failure):
        return text
    if not text.strip():
        if reason == "length":
            return Failure(FailureKind.OUT_OF_TOKENS, "the judge used up max_tokens before it wrote any text")
        beside = any(message.get(name) for name in ("reasoning_content", "reasoning"))
        return Failure(FailureKind.EMPTY, f"the judge's answer is empty{' but for its reasoning' if beside else ''}")
    served = content.get("model")
    usage = content.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    tokens = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(
        key.redact(text) if key else text,
        clean(reason, key) if isinstance(reason, str) else None,
        clean(served, key) if isinstance(served, str) else None,
        *(count if isinstance(count, int) else None for count in tokens),
    )


def _text(content: Any) -> str | Failure:
    """Return the text of a message: a string, or the text parts of a list, without those of reasoning."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is None:
        return ""
    if not isinstance(content, str):
        return Failure(FailureKind.MALFORMED, "the content of the endpoint's answer is not text")
    try:
        content.encode()
    except UnicodeEncodeError:
        return Failure(FailureKind.MALFORMED, "the text of the endpoint's answer is not Unicode")
    return content


def _error(status: int, headers: Mapping[str, str], content: Any, key: ApiKey | None) -> Failure:
    error = content.get("error") if isinstance(content, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    message = _message(content)
    if 300 <= status < 400:
        # Not followed: the key is meant for the endpoint named and no other.
        return Failure(FailureKind.NOT_FOUND, f"the endpoint redirects ({status}); name the final address")
    if code == "insufficient_quota":
        kind = FailureKind.QUOTA
    elif code == "content_filter":
        kind = FailureKind.REFUSED
    elif status == 403:
        kind = _kind_of_403(f"{code} {message}")
    else:
        kind = _BY_STATUS.get(status, FailureKind.SERVER if status >= 500 else FailureKind.REJECTED)
    # A message about a refused key often holds a part of the key.
    shown = f": {clean(message, key)}" if message and kind is not FailureKind.UNAUTHORISED else ""
    return Failure(kind, f"the endpoint answers {status}{shown}", wait_s=retry_after(headers))


def _kind_of_403(text: str) -> FailureKind:
    if _OF_THE_PROMPT.search(text):
        return FailureKind.REFUSED
    return FailureKind.UNAUTHORISED if _OF_THE_KEY.search(text) else FailureKind.FORBIDDEN


def _message(content: Any) -> str | None:
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
