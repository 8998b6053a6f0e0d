import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from parbench.bench.store import leases as module
from parbench.bench.store.garbage import find_garbage
from parbench.bench.store.leases import STALE_SECONDS, DelegatedLease, Leases, Process
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.bench.util.file_lock import file_lock
from tests.support.paths import SOURCE

RUN = "0123456789abcdef"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def rewrite(store, **changes):
    path = store / "leases" / f"{RUN}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_a_run_is_claimed_once_until_it_is_given_back(store):
    ours, theirs = Leases(store), Leases(store)
    assert ours.take(RUN)
    assert not theirs.take(RUN)
    assert theirs.holder(RUN).processes == (Process.of(os.getpid()),)
    assert list(theirs.living()) == [RUN]
    ours.release(RUN)
    assert theirs.take(RUN)


def test_the_claim_of_a_dead_process_is_stale(store):
    Leases(store).take(RUN)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    rewrite(store, processes=[vars(Process.of(process.pid))])
    assert not Leases(store).take(RUN)
    process.communicate(b"\n")
    assert Leases(store).stale() == [RUN]
    assert Leases(store).take(RUN)


def test_a_process_that_was_not_yet_waited_for_is_dead(store):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = Process.of(process.pid)
    assert known.lives()
    process.stdin.close()
    while Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    assert not known.lives()
    process.wait()


def test_the_claim_of_a_process_whose_number_is_another_one_s_now_is_stale(store):
    Leases(store).take(RUN)
    rewrite(store, processes=[{"pid": os.getpid(), "started": Process.of(os.getpid()).started - 3600}])
    assert Leases(store).holder(RUN) is None
    assert Leases(store).take(RUN)


def test_a_claim_with_any_living_process_lives(store):
    ours = Leases(store)
    ours.take(RUN)
    dead = {"pid": 2**22 - 1, "started": 1.0}
    rewrite(store, processes=[dead, vars(Process.of(os.getpid()))])
    assert not Leases(store).take(RUN)


@pytest.mark.parametrize(("age", "stale"), [(STALE_SECONDS - 60, False), (STALE_SECONDS + 60, True)])
def test_the_claim_of_another_machine_is_judged_by_its_age(store, age, stale):
    Leases(store).take(RUN)
    path = rewrite(store, host="elsewhere 1", processes=[{"pid": 1, "started": 1.0}])
    os.utime(path, (time.time() - age,) * 2)
    assert (Leases(store).holder(RUN) is None) == stale
    assert Leases(store).take(RUN) == stale


HOLD = """
import sys
from pathlib import Path
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store
store = Store(Path(sys.argv[1]))
store.prepare()
assert Leases(store.root).take(sys.argv[2])
(store.workspace(sys.argv[2]) / "checkpoint-1").mkdir()
print("held", flush=True)
input()
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs the right to make a PID namespace",
)
def test_a_process_of_another_pid_namespace_lives_by_its_heartbeat(store):
    """As of a container with the host's network, hence its name: its ids mean other processes here, or none."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    holder = subprocess.Popen(
        [*command, sys.executable, "-c", HOLD, store, RUN],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    found = Leases(store).holder(RUN)
    assert found is not None
    assert found.processes[0].pid < 10
    assert not Leases(store).take(RUN)
    assert not list(find_garbage(Store(store), unfinished=True))
    holder.communicate("\n", timeout=60)
    # Of its end nothing is known here but that the heartbeat ceases.
    assert not Leases(store).take(RUN)
    path = store / "leases" / f"{RUN}.json"
    os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
    assert {garbage.run_id for garbage in find_garbage(Store(store), unfinished=True)} == {RUN}
    assert Leases(store).take(RUN)


def test_a_lease_is_renewed_whatever_its_process_is_doing(store, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.01)
    ours = Leases(store)
    ours.take(RUN)
    path = store / "leases" / f"{RUN}.json"
    os.utime(path, (1, 1))
    end = time.monotonic() + 60
    while path.stat().st_mtime == 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    ours.release(RUN)
    while ours._has_heart:
        assert time.monotonic() < end
        time.sleep(0.01)
    # One that is taken later has a heartbeat again.
    ours.take(RUN)
    os.utime(path, (1, 1))
    while path.stat().st_mtime == 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    ours.release_all()


def test_a_claim_is_renewed_now_and_then(store, monkeypatch):
    ours = Leases(store)
    ours.take(RUN)
    path = store / "leases" / f"{RUN}.json"
    os.utime(path, (1, 1))
    ours.renew()
    assert path.stat().st_mtime == 1
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    ours.renew()
    assert path.stat().st_mtime > 1
    path.unlink()
    ours.renew()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00\xff",
        '{"token": 1}',
        '{"token": "a", "host": "b", "processes": []}',
        '{"token": "a", "host": "b", "processes": [{"pid": -1, "started": 1}]}',
        '{"token": "a", "host": "b", "processes": [{"pid": 1e99, "started": 1}]}',
        '{"token": "a", "host": "b", "processes": [{"pid": 1, "started": NaN}]}',
        '{"token": "a", "host": "b", "processes": [{"pid": "x", "started": 1}]}',
        "[" * 100_000,
    ],
)
def test_an_unreadable_lease_belongs_to_no_process(store, text):
    (store / "leases").mkdir(parents=True)
    (store / "leases" / f"{RUN}.json").write_bytes(text.encode("latin-1"))
    leases = Leases(store)
    assert leases.holder(RUN) is None
    assert leases.stale() == [RUN]
    assert leases.take(RUN)


def test_a_lock_that_another_process_holds_is_waited_for_and_then_a_sentence(store, monkeypatch):
    monkeypatch.setattr(module, "file_lock", partial(file_lock, seconds=0.3))
    Leases(store).take(RUN)
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('locked', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, store / "leases" / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match=r"another process has held the lock .* end it and try again"):
        Leases(store).take("another")
    # It ends with its process, however that ends.
    holder.kill()
    holder.wait()
    assert Leases(store).take("another")


def test_a_lease_taken_over_by_another_process_is_not_released(store):
    ours = Leases(store)
    ours.take(RUN)
    path = rewrite(store, token="theirs")
    ours.release(RUN)
    assert path.exists()


def test_an_entrusted_claim_is_kept_by_who_took_it(store):
    driver = Leases(store)
    driver.take(RUN)
    node = DelegatedLease(store, driver.token(RUN))
    assert node.take(RUN)
    node.add_process(RUN, os.getppid())
    node.release(RUN)
    node.renew()
    assert [process.pid for process in Leases(store).holder(RUN).processes] == [os.getpid(), os.getppid()]
    driver.release(RUN)
    assert not node.take(RUN)
    driver.take(RUN)
    assert not node.take(RUN), "another lease than the one that was delegated"


RACE = """
import json, sys, time
from pathlib import Path
from parbench.bench.store.leases import Leases
leases, won = Leases(Path(sys.argv[1])), []
while time.time() < float(sys.argv[2]):
    pass
for number in range(200):
    if leases.take(f"{number:016x}"):
        won.append(number)
print(json.dumps(won), flush=True)
sys.stdin.read()
"""


def test_processes_that_race_for_two_hundred_runs_share_them(store):
    begin = time.time() + 2
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, store, str(begin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        for _ in range(2)
    ]
    # Both live until both are done: the leases of one that has ended are free.
    won = [json.loads(racer.stdout.readline()) for racer in racers]
    for racer in racers:
        racer.communicate()
    assert sorted(won[0] + won[1]) == list(range(200))


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "leases").write_text("a file in its place")
    with pytest.raises(UserError, match="cannot write to"):
        Leases(tmp_path).take(RUN)
