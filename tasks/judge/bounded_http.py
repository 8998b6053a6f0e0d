"""An HTTP client that reads no response beyond a size and a duration. Needs the extra ``judge``."""

from __future__ import annotations

import time
from typing import Any

import httpx2

# Of a response whose body is read and decompressed already.
_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")


class BoundedClient(httpx2.Client):
    """The HTTP client of the ``openai`` client: its time-outs are between two bytes, and it has no limit of size.

    Args:
        total_s: seconds for one whole response.
        largest: bytes of a decompressed response.
        settings: of `httpx2.Client`.
    """

    def __init__(self, total_s: float, largest: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._total_s = total_s
        self._largest = largest

    def send(self, request: httpx2.Request, **settings: Any) -> httpx2.Response:
        """Send a request and return the response, read to its end.

        Raises:
            httpx2.ReadTimeout: the response took longer than ``total_s``.
            httpx2.DecodingError: it is larger than ``largest``, or cannot be decompressed.
        """
        end = time.monotonic() + self._total_s
        response = super().send(request, **{**settings, "stream": True})
        content = bytearray()
        try:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > self._largest:
                    raise httpx2.DecodingError("it is too long for a judgment", request=request)
                if time.monotonic() > end:
                    raise httpx2.ReadTimeout("the response did not end in time", request=request)
        finally:
            response.close()
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in _OF_THE_WIRE]
        return httpx2.Response(response.status_code, headers=headers, content=bytes(content), request=request)
