"""Who does which run: so that several commands on one store never do the same one, and none waits for a dead one.

A claim is a small file in the store that names the processes at work. It is read and written under a lock of the
operating system, held for an instant, which also works on network file systems and ends with its process. A claim is
stale when none of its processes lives any more; of another machine's processes that is not known here, and its claim is
stale when nobody has renewed it for `STALE_SECONDS` by the file system's own clock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import UserError
from bench.store import explained, write_atomically

RENEW_SECONDS = 15.0
STALE_SECONDS = 300.0
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Process:
    """One process for all time: a number is used again, but not with the same start."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return what is known of a living process."""
        return cls(pid, psutil.Process(pid).create_time())

    def lives(self) -> bool:
        """Tell whether it is still there; one that has ended and was not yet waited for is not."""
        try:
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.started) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Claim:
    """What a claim's file says.

    Attributes:
        token: tells claims of one run apart.
        host: name of the machine, and what tells its starts apart.
        processes: at work there.
    """

    token: str
    host: str
    processes: tuple[Process, ...]

    def to_json(self) -> str:
        """Return the file's text."""
        processes = [vars(process) for process in self.processes]
        return json.dumps({"token": self.token, "host": self.host, "processes": processes}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Claim:
        """Read a file's text.

        Raises:
            ValueError: it is none.
        """
        try:
            content = json.loads(text)
            return cls(content["token"], content["host"], tuple(Process(**found) for found in content["processes"]))
        except (KeyError, TypeError) as error:
            raise ValueError("is no claim") from error


class Claims:
    """The claims on the runs of one store.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "claims"
        self._held: dict[str, Claim] = {}
        self._renewed = time.monotonic()

    def take(self, run_id: str) -> bool:
        """Claim a run for this process, if nobody else has it.

        Raises:
            UserError: the store cannot be written to, or its file system has no locks.
        """
        with explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                if self._living(run_id) is not None:
                    return False
                claim = Claim(uuid.uuid4().hex, _host(), (Process.of(os.getpid()),))
                write_atomically(self._path(run_id), claim.to_json())
        self._held[run_id] = claim
        return True

    def add_process(self, run_id: str, pid: int) -> None:
        """Name another process that works on a claimed run: it may outlive this one."""
        claim = self._held[run_id]
        claim = Claim(claim.token, claim.host, (*claim.processes[:1], Process.of(pid)))
        with explained(self._folder), self._lock():
            write_atomically(self._path(run_id), claim.to_json())
        self._held[run_id] = claim

    def release(self, run_id: str) -> None:
        """Give a run back."""
        claim = self._held.pop(run_id)
        with explained(self._folder), self._lock():
            found = self._read(run_id)
            if found is not None and found.token == claim.token:
                self._path(run_id).unlink()

    def renew(self) -> None:
        """Show that the claims are still meant; to be called often, it does something now and then."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        for run_id in self._held:
            # It is gone if someone thought us dead: what they do is the same run, and the later record wins.
            with suppress(FileNotFoundError):
                os.utime(self._path(run_id))

    def holder(self, run_id: str) -> Claim | None:
        """Return the living claim on a run, whoever's it is."""
        if not self._folder.is_dir():
            return None
        return self._living(run_id)

    def living(self) -> dict[str, Claim]:
        """Return all living claims by run."""
        if not self._folder.is_dir():
            return {}
        names = (path.stem for path in sorted(self._folder.glob("*.json")))
        return {name: claim for name in names if (claim := self._living(name)) is not None}

    def _living(self, run_id: str) -> Claim | None:
        claim = self._read(run_id)
        if claim is None:
            return None
        if claim.host == _host():
            return claim if any(process.lives() for process in claim.processes) else None
        try:
            age = self._now() - self._path(run_id).stat().st_mtime
        except FileNotFoundError:
            return None
        return claim if age < STALE_SECONDS else None

    def _read(self, run_id: str) -> Claim | None:
        try:
            return Claim.from_json(self._path(run_id).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:  # half of one, or something else: nobody's
            return None

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    def _now(self) -> float:
        """Return the time by the file system's clock, which may not be this machine's."""
        probe = self._folder / f".clock-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._folder / ".lock").open("w") as file:
            patience = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EACCES, errno.EAGAIN):
                        raise
                if time.monotonic() > patience:
                    raise UserError(
                        f'another process has held the lock "{file.name}" for a minute; end it and try again'
                    )
                time.sleep(0.05)
            try:
                yield
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN)


def _host() -> str:
    return f"{socket.gethostname()} {psutil.boot_time():.0f}"
