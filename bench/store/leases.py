"""Who does which run: so that several commands on one store never do the same one, and none waits for a dead one.

A claim is a small file in the store that names the processes at work. It is read and written under a lock of the
operating system, held for an instant, which also works on network file systems and ends with its process. A claim is
stale when none of its processes lives any more; of another machine's processes that is not known here, and its claim is
stale when nobody has renewed it for `STALE_SECONDS` by the file system's own clock.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from parbench.bench.store.layout import CLAIMS, LOCK
from parbench.bench.util.file_lock import file_lock
from parbench.bench.util.files import explained, write_atomically

RENEW_SECONDS = 15.0
STALE_SECONDS = 300.0


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
class Lease:
    """What a claim's file says.

    Attributes:
        token: tells claims of one run apart.
        host: name of the machine, and what tells its starts apart.
        processes: at work there.
    """

    token: str
    host: str
    processes: tuple[Process, ...]

    @property
    def since(self) -> datetime:
        """When the newest of its processes started, which for a run in a process of its own is the run's beginning."""
        return datetime.fromtimestamp(max(process.started for process in self.processes), UTC)

    def to_json(self) -> str:
        """Return the file's text."""
        processes = [vars(process) for process in self.processes]
        return json.dumps({"token": self.token, "host": self.host, "processes": processes}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Lease:
        """Read a file's text.

        Raises:
            ValueError: it is none.
        """
        try:
            content = json.loads(text)
            processes = tuple(Process(int(found["pid"]), float(found["started"])) for found in content["processes"])
            claim = cls(str(content["token"]), str(content["host"]), processes)
        except (KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError("is no claim") from error
        # What no system gives out would not be understood when it is asked for.
        if not processes or not all(0 < one.pid < 2**31 and 0 <= one.started < 2**40 for one in processes):
            raise ValueError("names no process")
        return claim


class Leases:
    """The claims on the runs of one store.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / CLAIMS
        self._held: dict[str, Lease] = {}
        self._renewed = time.monotonic()

    def take(self, run_id: str) -> bool:
        """Lease a run for this process, if nobody else has it.

        Raises:
            UserError: the store cannot be written to, or its file system has no locks.
        """
        with explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self._folder / LOCK):
                if self._living(run_id) is not None:
                    return False
                claim = Lease(uuid.uuid4().hex, _host(), (Process.of(os.getpid()),))
                write_atomically(self.path(run_id), claim.to_json())
        self._held[run_id] = claim
        return True

    def token(self, run_id: str) -> str:
        """Return what shows another process that a run is claimed here, see `DelegatedLease`."""
        return self._held[run_id].token

    def add_process(self, run_id: str, pid: int) -> None:
        """Name another process that works on a claimed run: it may outlive this one."""
        claim = self._held[run_id]
        claim = Lease(claim.token, claim.host, (*claim.processes[:1], Process.of(pid)))
        with explained(self._folder), file_lock(self._folder / LOCK):
            write_atomically(self.path(run_id), claim.to_json())
        self._held[run_id] = claim

    def release(self, run_id: str) -> None:
        """Give a run back."""
        claim = self._held.pop(run_id)
        with explained(self._folder), file_lock(self._folder / LOCK):
            found = self._read(run_id)
            if found is not None and found.token == claim.token:
                self.path(run_id).unlink()

    def release_all(self) -> None:
        """Give back whatever is still held."""
        for run_id in list(self._held):
            self.release(run_id)

    def renew(self) -> None:
        """Show that the claims are still meant; to be called often, it does something now and then."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        for run_id in self._held:
            # It is gone if someone thought us dead: what they do is the same run, and the later record wins.
            with suppress(FileNotFoundError):
                os.utime(self.path(run_id))

    def holder(self, run_id: str) -> Lease | None:
        """Return the living claim on a run, whoever's it is."""
        if not self._folder.is_dir():
            return None
        return self._living(run_id)

    def living(self) -> dict[str, Lease]:
        """Return all living claims by run."""
        if not self._folder.is_dir():
            return {}
        names = (path.stem for path in sorted(self._folder.glob("*.json")))
        return {name: claim for name in names if (claim := self._living(name)) is not None}

    def stale(self) -> list[str]:
        """Return the runs whose claims are nobody's any more, or are none."""
        if not self._folder.is_dir():
            return []
        names = (path.stem for path in sorted(self._folder.glob("*.json")))
        return [name for name in names if self._living(name) is None]

    def drop_stale(self, run_id: str) -> bool:
        """Delete a run's claim if it is stale; tell whether it was."""
        with explained(self._folder), file_lock(self._folder / LOCK):
            if self._living(run_id) is not None:
                return False
            self.path(run_id).unlink(missing_ok=True)
            return True

    def _living(self, run_id: str) -> Lease | None:
        claim = self._read(run_id)
        if claim is None:
            return None
        if claim.host == _host():
            return claim if any(process.lives() for process in claim.processes) else None
        try:
            age = self._now() - self.path(run_id).stat().st_mtime
        except FileNotFoundError:
            return None
        return claim if age < STALE_SECONDS else None

    def _read(self, run_id: str) -> Lease | None:
        try:
            return Lease.from_json(self.path(run_id).read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError):
            return None
        except ValueError:  # half of one, or something else: nobody's
            return None

    def path(self, run_id: str) -> Path:
        """Return where a run's claim is, if there is one."""
        return self._folder / f"{run_id}.json"

    def _now(self) -> float:
        """Return the time by the file system's clock, which may not be this machine's."""
        probe = self._folder / f".clock-{uuid.uuid4().hex}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # who only looks at a store may not be allowed to write
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


class DelegatedLease(Leases):
    """A claim that another process has taken, renews and gives back, perhaps of another machine; this one works for it.

    Args:
        root: the store's folder.
        token: of the claim.
    """

    def __init__(self, root: Path, token: str) -> None:
        super().__init__(root)
        self._token = token

    def take(self, run_id: str) -> bool:
        """Tell whether the claim is still the one that was entrusted."""
        found = self._read(run_id)
        return found is not None and found.token == self._token

    def add_process(self, run_id: str, pid: int) -> None:
        """Name a process that works on the run, if it is on the claim's machine: it may outlive whoever claimed it."""
        with explained(self._folder), file_lock(self._folder / LOCK):
            claim = self._read(run_id)
            if claim is not None and claim.token == self._token and claim.host == _host():
                claim = Lease(claim.token, claim.host, (*claim.processes[:1], Process.of(pid)))
                write_atomically(self.path(run_id), claim.to_json())

    def release(self, run_id: str) -> None:
        """Leave it to who has taken it."""

    def renew(self) -> None:
        """Leave it to who has taken it."""


def _host() -> str:
    return f"{socket.gethostname()} {psutil.boot_time():.0f}"
