"""A stand-in for the hub on loopback: one folder is the files of every repository, at whatever commit is asked for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """A running stand-in.

    Attributes:
        url: what ``HF_ENDPOINT`` must be.
        head: the commit that the default branch is at.
        asked: every request so far, as ``METHOD path``.
    """

    url: str
    head: str
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    folder: Path

    def log_message(self, *arguments: object) -> None:
        return None

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.hub.asked.append(f"POST {self.path}")
        self._json(
            [_entry(self.folder / path, self.folder) for path in asked["paths"] if (self.folder / path).exists()]
        )

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            self._describe(parts)
        elif "resolve" in parts:
            at = parts.index("resolve")
            self._file(parts[at + 1], self.folder.joinpath(*parts[at + 2 :]))
        else:
            self._send(404, b"{}")

    def _describe(self, parts: list[str]) -> None:
        repository, rest = "/".join(parts[2:4]), parts[4:]
        commit = rest[1] if len(rest) > 1 and len(rest[1]) == 40 else self.hub.head
        if rest[:1] == ["tree"]:
            folder = self.folder.joinpath(*rest[2:])
            if not folder.is_dir():
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                return
            self._json([_entry(path, self.folder) for path in sorted(folder.iterdir())])
        else:
            files = sorted(path for path in self.folder.rglob("*") if path.is_file())
            siblings = [{"rfilename": path.relative_to(self.folder).as_posix()} for path in files]
            self._json({"id": repository, "sha": commit, "siblings": siblings, "tags": [], "private": False})

    def _file(self, commit: str, path: Path) -> None:
        if not path.is_file():
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = path.read_bytes()
        commit = commit if len(commit) == 40 else self.hub.head
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        self._send(200, content, headers, "application/octet-stream")

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode())

    def _send(
        self, code: int, content: bytes, headers: dict[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving(folder: Path, head: str) -> Iterator[Hub]:
    """Serve ``folder`` while the block runs."""
    hub = Hub("", head)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub, "folder": folder}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()


def _entry(path: Path, folder: Path) -> dict[str, object]:
    content = path.read_bytes() if path.is_file() else b""
    oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    kind = "file" if path.is_file() else "directory"
    return {"type": kind, "path": path.relative_to(folder).as_posix(), "size": len(content), "oid": oid}
