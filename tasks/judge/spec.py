"""The judge's model and endpoint, ``MODEL@URL``, and its key, which is in an environment variable only."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote, urlsplit

from parbench.bench.util.errors import UserError

OWN_KEY = "PARBENCH_JUDGE_KEY"
COMMON_KEY = "OPENAI_API_KEY"

# Characters of a key by which it is recognised in a server's message: servers echo its beginning and its end.
_PIECE = 8


@dataclass(frozen=True)
class JudgeSpec:
    """A model behind an OpenAI-compatible endpoint.

    Attributes:
        model: the model's name there.
        url: the API's base, such as ``https://HOST/v1``. It is written to records, so it must not hold credentials.
            Plain http is refused except to this machine; for any other, use https or a tunnel.

    Raises:
        UserError: the address is not a URL, holds credentials, or is plain http to another machine.
    """

    model: str
    url: str

    def __post_init__(self) -> None:
        if not self.model or self.model != self.model.strip():
            raise UserError("the judge has no model name; name it as MODEL@URL")
        try:
            parts = urlsplit(self.url)
            parts.port  # noqa: B018  (raises if the port is not a number)
        except ValueError:
            raise UserError(f"the address of the judge {self.model} is not a URL; name it as MODEL@URL") from None
        # From here on no message repeats the address: it may hold a secret.
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise UserError(
                f"the address of the judge {self.model} holds more than scheme, host and path; credentials belong in "
                f"the environment variable {OWN_KEY}"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"the address of the judge {self.model} does not begin with https://HOST; name it as MODEL@URL"
            )
        if parts.scheme == "http" and not self.local:
            raise UserError(
                f"the judge {self.model} is on another machine and asked over plain http, which exposes the key; use "
                f"https, or a tunnel that ends on 127.0.0.1"
            )

    @classmethod
    def parse(cls, text: str) -> JudgeSpec:
        """Read ``MODEL@URL``; a URL without a path gets ``/v1``, and the path of the chat call may be left in.

        Raises:
            UserError: it is not of that form.
        """
        # A model's name may hold an @ of its own.
        at = max(text.rfind("@http://"), text.rfind("@https://"))
        if at < 1:
            raise UserError("the judge must be named as MODEL@URL, for example gpt-4@https://HOST/v1")
        model, url = text[:at], text[at + 1 :].rstrip("/").removesuffix("/chat/completions")
        spec = cls(model, url)
        return spec if urlsplit(url).path else cls(model, f"{url}/v1")

    @property
    def local(self) -> bool:
        """Whether the endpoint is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def __str__(self) -> str:
        return f"{self.model}@{self.url}"


class ApiKey:
    """A secret that is shown to the endpoint only.

    Raises:
        UserError: it cannot be a key; the message does not repeat it.
    """

    __slots__ = ("_pattern", "_pieces", "_secret")

    def __init__(self, secret: str, origin: str) -> None:
        # A shorter one could not be distinguished from ordinary text, and so not be kept out of records.
        if len(secret) < _PIECE or not re.fullmatch(r"[!-~]+", secret):
            raise UserError(
                f"the environment variable {origin} holds no usable API key: at least {_PIECE} printable ASCII "
                f"characters, without spaces"
            )
        self._secret = secret
        forms = sorted({secret, quote(secret, safe="")}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, forms)), re.IGNORECASE)
        folded = secret.lower()
        self._pieces = frozenset(folded[start : start + _PIECE] for start in range(len(folded) - _PIECE + 1))

    @classmethod
    def from_environment(cls, spec: JudgeSpec, environment: Mapping[str, str] | None = None) -> ApiKey | None:
        """Return the key for an endpoint: ``PARBENCH_JUDGE_KEY``, else ``OPENAI_API_KEY``.

        A local endpoint needs none and never gets ``OPENAI_API_KEY``: a server on a port of this machine is not the
        issuer of that key.

        Raises:
            UserError: a key is needed and there is none.
        """
        environment = os.environ if environment is None else environment
        for name in (OWN_KEY,) if spec.local else (OWN_KEY, COMMON_KEY):
            if secret := environment.get(name, "").strip():
                return cls(secret, name)
        if spec.local:
            return None
        raise UserError(
            f"the judge {spec} needs an API key; put it in the environment variable {OWN_KEY} or {COMMON_KEY}"
        )

    def reveal(self) -> str:
        """Return the key itself: to be used within one expression, so that no traceback has it as a variable."""
        return self._secret

    def redact(self, text: str) -> str:
        """Return a text without the key."""
        return self._pattern.sub("[key]", text)

    def redact_pieces(self, text: str) -> str:
        """Return a message without the key and without longer pieces of it."""
        text = self.redact(text)
        folded = text.lower()
        if len(folded) != len(text):  # a letter that is two in lower case: positions would no longer agree
            return "[a message that cannot be shown]"
        hidden = [False] * len(text)
        for start in range(len(text) - _PIECE + 1):
            if folded[start : start + _PIECE] in self._pieces:
                hidden[start : start + _PIECE] = [True] * _PIECE
        shown = "".join("\0" if hide else letter for letter, hide in zip(text, hidden, strict=True))
        return re.sub("\0+", "[key]", shown)

    def __repr__(self) -> str:
        return "ApiKey([key])"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is never stored; read it from the environment again")
