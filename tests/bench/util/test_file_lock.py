import json
import subprocess
import sys

from tests.support.paths import SOURCE

# Two processes at the same moment, many times.
PUT = """
import sys, time
from pathlib import Path
from parbench.tasks.data.lock import RevisionLock
name, path, start = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
while time.time() < start:
    pass
for number in range(20):
    RevisionLock(path).put("dataset", f"{name}{number}", name)
    RevisionLock(path).put("dataset", f"both{number}", name)
"""


def test_locks_put_at_the_same_time_are_all_kept(tmp_path):
    path = tmp_path / "lock.json"
    started = [
        subprocess.Popen([sys.executable, "-c", PUT, name, path, "0"], env={"PYTHONPATH": str(SOURCE)})
        for name in ("a", "b", "c")
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    locked = json.loads(path.read_text())
    assert len(locked) == 3 * 20 + 20
    assert all(locked[f"dataset:{name}{number}"] == name for name in "abc" for number in range(20))


def test_the_first_of_two_commits_is_what_both_use(tmp_path):
    from parbench.tasks.data.lock import RevisionLock

    lock = RevisionLock(tmp_path / "lock.json")
    assert lock.put("model", "some/model", "one") == "one"
    assert lock.put("model", "some/model", "two") == "one"
    assert lock.get("model", "some/model") == "one"
