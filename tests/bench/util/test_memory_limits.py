"""Control groups as the kernel's documentation lays them out, planted in a folder."""

from types import SimpleNamespace

import psutil
import pytest

from parbench.bench.util import memory_limits
from parbench.bench.util.memory_limits import available_memory, oom_kills, total_memory

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Plant what a process sees: its groups, the mounts, and files; the machine has 64 GiB, of which 32 are free."""

    def plant(cgroup, mounts, files):
        for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("ROOT", str(tmp_path)))
        monkeypatch.setattr(memory_limits, "PROC", tmp_path / "proc")
        monkeypatch.setattr(memory_limits, "_CGROUPS", tmp_path / "proc/self/cgroup")
        monkeypatch.setattr(memory_limits, "_MOUNTS", tmp_path / "proc/self/mountinfo")
        memory = SimpleNamespace(total=64 * GIB, available=32 * GIB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    return plant


def mount(root, point, kind, options):
    return f"30 23 0:26 {root} ROOT/{point} rw,nosuid - {kind} cgroup rw,{options}\n"


V1_CGROUP = "11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n"
UNLIMITED = "9223372036854771712\n"


@pytest.mark.parametrize("root", ["/", "/docker/abc"], ids=["host", "container"])
def test_version_1(system, root):
    """In a container the mount shows the container's group at its top; on the host the group is below."""
    folder = "cg/memory/docker/abc" if root == "/" else "cg/memory"
    files = {
        "cg/memory/memory.limit_in_bytes": UNLIMITED,
        f"{folder}/memory.limit_in_bytes": f"{8 * GIB}\n",
        f"{folder}/memory.usage_in_bytes": f"{5 * GIB}\n",
        f"{folder}/memory.stat": f"cache 1\ntotal_inactive_file {2 * GIB}\n",
        f"{folder}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "proc/vmstat": "oom_kill 99\n",
    }
    system(V1_CGROUP, mount(root, "cg/cpu", "cgroup", "cpu") + mount(root, "cg/memory", "cgroup", "memory"), files)
    assert (total_memory(), available_memory(), oom_kills()) == (8 * GIB, 5 * GIB, 3)


def test_version_2_takes_the_least_limit_of_all_groups_around(system):
    files = {
        "cg/user.slice/memory.max": f"{4 * GIB}\n",
        "cg/user.slice/memory.current": f"{3 * GIB}\n",
        "cg/user.slice/memory.stat": "anon 1\n",
        "cg/user.slice/job/memory.max": "max\n",
        "cg/user.slice/job/memory.events": "low 0\nhigh 0\noom 2\noom_kill 2\n",
    }
    system("0::/user.slice/job\n", mount("/", "cg", "cgroup2", "nsdelegate"), files)
    assert (total_memory(), available_memory(), oom_kills()) == (4 * GIB, 1 * GIB, 2)


def test_the_root_of_version_2_counts_nothing_and_the_machine_does(system):
    """Also under a hybrid hierarchy, where version 2 has no controllers."""
    system(
        "0::/\n", mount("/", "cg", "cgroup2", "nsdelegate"), {"cg/cgroup.procs": "1\n", "proc/vmstat": "oom_kill 7\n"}
    )
    assert (total_memory(), available_memory(), oom_kills()) == (64 * GIB, 32 * GIB, 7)


def test_a_group_outside_of_what_is_seen_is_the_one_at_the_top(system):
    """As in a container whose /proc/self/cgroup has the host's paths or leads out of its namespace."""
    files = {"cg/memory.max": f"{2 * GIB}\n", "cg/memory.current": "0\n", "cg/memory.events": "oom_kill 1\n"}
    for path in ("/../../other", "/kubepods/pod1"):
        system(f"0::{path}\n", mount("/", "cg", "cgroup2", "nsdelegate"), files)
        assert (total_memory(), oom_kills()) == (2 * GIB, 1)


def test_where_nothing_is_known_it_is_the_machine(system):
    system("", "", {})
    assert (total_memory(), available_memory(), oom_kills()) == (64 * GIB, 32 * GIB, 0)
