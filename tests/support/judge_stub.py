"""An OpenAI-compatible endpoint on loopback that plays a script."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# The key of a judge, which no file and no message may show.
KEY = "sk-planted-4f9c2e7718aa03bd"


@dataclass(frozen=True)
class Answer:
    """What the stub does with one request: a status and a body, or something ruder."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    drop: str = ""  # "before" or "inside" the body
    drip: bool = False  # a byte at a time, without end


def chat(text: Any, **message: Any) -> Answer:
    """A good chat completion."""
    finish = message.pop("finish_reason", "stop")
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "x", "object": "chat.completion", "model": "judge-0613", "choices": [choice], "usage": usage}
    return Answer(body=json.dumps(body).encode())


def text_of(answer: Answer) -> str:
    """The text of a good chat completion."""
    return str(json.loads(answer.body)["choices"][0]["message"]["content"])


def failing(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error in OpenAI's form."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


# Gets the request's body and how many came before it.
Script = Callable[[dict[str, Any], int], Answer]


@dataclass
class Stub:
    """A running endpoint: its address, and the body and headers of every request so far."""

    script: Script
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @contextmanager
    def answering(self, request: dict[str, Any], headers: dict[str, str], path: str) -> Iterator[Answer]:
        """Take note of a request for as long as it is answered."""
        with self.lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append(headers)
            self.paths.append(path)
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            yield self.script(request, number)
        finally:
            with self.lock:
                self.under_way -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub: Stub

    def log_message(self, *arguments: object) -> None:
        return None

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.title(): value for name, value in self.headers.items()}
        with self.stub.answering(request, headers, self.path) as answer:
            self._play(answer)

    def _play(self, answer: Answer) -> None:
        if answer.drop == "before":
            # A hard reset: no goodbye.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status, answer.reason)
        length = 10**6 if answer.drip else len(answer.body) + (100 if answer.drop else 0)
        for name, value in {"Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(answer.body)
            while answer.drip:
                self.wfile.write(b" ")
                time.sleep(0.005)
        except OSError:  # the client has hung up, as it should
            pass
        if answer.drop or answer.drip:
            self.close_connection = True


@contextmanager
def endpoint(script: Script | list[Answer]) -> Iterator[Stub]:
    """Serve while the block runs; a list is played once, its last answer again and again."""
    played = script if callable(script) else lambda request, number: script[min(number, len(script) - 1)]
    stub = Stub(played)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
