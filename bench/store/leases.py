"""Leases: which process executes which run, so that commands on one store never repeat a run nor wait for a dead one.

A lease is a small file in the store that names its processes. It is read and written under a lock of the operating
system, held for an instant, which also works on network file systems and ends with its process. A lease is stale when
none of its processes lives any more. Processes of another machine, or of another PID namespace (a container) of this
one, cannot be seen: their lease is stale when it was not renewed for `STALE_SECONDS` by the file system's own clock.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil

from parbench.bench.store.layout import LEASES, LOCK
from parbench.bench.util.file_lock import file_lock
from parbench.bench.util.files import explained, write_atomically

RENEW_SECONDS = 15.0
STALE_SECONDS = 300.0
_BEAT_SECONDS = 1.0
# What Linux draws at each boot; unlike the time of the boot it does not change when the clock is set.
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Process:
    """A process, by its id and start: an id is used again, but not with the same start."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return a living process.

        Raises:
            psutil.NoSuchProcess: it has ended.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def lives(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        try:
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.started) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Lease:
    """The content of a lease's file.

    Attributes:
        token: distinguishes leases of one run.
        host: name of the machine, and what distinguishes its boots and its PID namespaces.
        processes: that execute the run there.
    """

    token: str
    host: str
    processes: tuple[Process, ...]

    @property
    def holder(self) -> str:
        """Its processes and machine, and since when.

        The newest process of a run in a process of its own started with the run.
        """
        pids = ", ".join(str(process.pid) for process in self.processes)
        host = (self.host.split() or ["?"])[0]
        since = datetime.fromtimestamp(max(process.started for process in self.processes), UTC)
        return f"process {pids} on {host} since {since:%Y-%m-%d %H:%M:%S} UTC"

    def to_json(self) -> str:
        """Return the file's text."""
        processes = [vars(process) for process in self.processes]
        return json.dumps({"token": self.token, "host": self.host, "processes": processes}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Lease:
        """Read a file's text.

        Raises:
            ValueError: it is not a lease.
        """
        try:
            content = json.loads(text)
            processes = tuple(Process(int(found["pid"]), float(found["started"])) for found in content["processes"])
            lease = cls(str(content["token"]), str(content["host"]), processes)
        except (KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError("is not a lease") from error
        # No system gives out such ids, and asking for one raises other errors.
        if not processes or not all(0 < one.pid < 2**31 and 0 <= one.started < 2**40 for one in processes):
            raise ValueError("names no process")
        return lease


class Leases:
    """The leases on the runs of one store.

    Those of this process are renewed by a thread as long as any is held, whatever the process is doing.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / LEASES
        self._held: dict[str, Lease] = {}
        self._renewed = time.monotonic()
        self._beating = threading.Lock()
        self._has_heart = False

    def take(self, run_id: str) -> bool:
        """Lease a run for this process; return whether no other process has it.

        Raises:
            UserError: the store cannot be written to, or its file system has no locks.
        """
        with explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self._folder / LOCK):
                if self._living(run_id) is not None:
                    return False
                lease = Lease(uuid.uuid4().hex, _host(), (Process.of(os.getpid()),))
                write_atomically(self.path(run_id), lease.to_json())
        with self._beating:
            self._held[run_id] = lease
            if not self._has_heart:
                self._has_heart = True
                threading.Thread(target=self._beat, daemon=True, name="leases").start()
        return True

    def token(self, run_id: str) -> str:
        """Return what proves to another process that a run is leased here, see `DelegatedLease`."""
        return self._held[run_id].token

    def add_process(self, run_id: str, pid: int) -> None:
        """Add a process that works on a leased run: it may outlive this one."""
        lease = self._held[run_id]
        lease = Lease(lease.token, lease.host, (*lease.processes[:1], Process.of(pid)))
        with explained(self._folder), file_lock(self._folder / LOCK):
            write_atomically(self.path(run_id), lease.to_json())
        self._held[run_id] = lease

    def release(self, run_id: str) -> None:
        """Release a run."""
        lease = self._held.pop(run_id)
        with explained(self._folder), file_lock(self._folder / LOCK):
            found = self._read(run_id)
            if found is not None and found.token == lease.token:
                self.path(run_id).unlink()

    def release_all(self) -> None:
        """Release all runs that are still held."""
        for run_id in list(self._held):
            self.release(run_id)

    def renew(self) -> None:
        """Renew the leases that are held, at most every `RENEW_SECONDS`."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        for run_id in list(self._held):
            # It is gone if it was stale for another process: that executes the same run, and the later record wins.
            with suppress(FileNotFoundError):
                os.utime(self.path(run_id))

    def holder(self, run_id: str) -> Lease | None:
        """Return the living lease on a run, of this or another process."""
        if not self._folder.is_dir():
            return None
        return self._living(run_id)

    def living(self) -> dict[str, Lease]:
        """Return all living leases by run."""
        if not self._folder.is_dir():
            return {}
        names = (path.stem for path in sorted(self._folder.glob("*.json")))
        return {name: lease for name in names if (lease := self._living(name)) is not None}

    def stale(self) -> list[str]:
        """Return the runs whose leases are stale, or unreadable."""
        if not self._folder.is_dir():
            return []
        names = (path.stem for path in sorted(self._folder.glob("*.json")))
        return [name for name in names if self._living(name) is None]

    def drop_stale(self, run_id: str) -> bool:
        """Delete a run's lease if it is stale; return whether it was."""
        with explained(self._folder), file_lock(self._folder / LOCK):
            if self._living(run_id) is not None:
                return False
            self.path(run_id).unlink(missing_ok=True)
            return True

    def _living(self, run_id: str) -> Lease | None:
        lease = self._read(run_id)
        if lease is None:
            return None
        if lease.host == _host():
            return lease if any(process.lives() for process in lease.processes) else None
        try:
            age = self._now() - self.path(run_id).stat().st_mtime
        except FileNotFoundError:
            return None
        return lease if age < STALE_SECONDS else None

    def _read(self, run_id: str) -> Lease | None:
        try:
            return Lease.from_json(self.path(run_id).read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError):
            return None
        except ValueError:  # half of one, or something else
            return None

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT_SECONDS)
            with suppress(OSError):  # a file system that does not answer now may answer the next time
                self.renew()
            with self._beating:
                if not self._held:
                    self._has_heart = False
                    return

    def path(self, run_id: str) -> Path:
        """Return the file of a run's lease, which may not exist."""
        return self._folder / f"{run_id}.json"

    def _now(self) -> float:
        """Return the time by the file system's clock, which may not be this machine's."""
        probe = self._folder / f".clock-{uuid.uuid4().hex}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # of a store that may only be read
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


class DelegatedLease(Leases):
    """A lease held and renewed by another process, perhaps of another machine; this process works on its behalf.

    Args:
        root: the store's folder.
        token: of the lease.
    """

    def __init__(self, root: Path, token: str) -> None:
        super().__init__(root)
        self._token = token

    def take(self, run_id: str) -> bool:
        """Return whether the lease is still the one that was delegated."""
        found = self._read(run_id)
        return found is not None and found.token == self._token

    def add_process(self, run_id: str, pid: int) -> None:
        """Add a process that works on the run, if it is on the lease's machine: it may outlive the holder."""
        with explained(self._folder), file_lock(self._folder / LOCK):
            lease = self._read(run_id)
            if lease is not None and lease.token == self._token and lease.host == _host():
                lease = Lease(lease.token, lease.host, (*lease.processes[:1], Process.of(pid)))
                write_atomically(self.path(run_id), lease.to_json())

    def release(self, run_id: str) -> None:
        """Leave it to the holder."""

    def renew(self) -> None:
        """Leave it to the holder."""


def _host() -> str:
    """Return what processes that can see each other have in common: the machine, its boot and the PID namespace."""
    return " ".join((socket.gethostname(), *_boot_and_namespace()))


@cache
def _boot_and_namespace() -> tuple[str, ...]:
    try:
        return _BOOT.read_text(encoding="ascii").strip(), os.readlink(_NAMESPACE)
    except OSError:  # not Linux, which alone has PID namespaces
        return (f"{psutil.boot_time():.0f}",)
