"""The heap beside glibc's own malloc, and by hand."""

import json
import platform
import random
import subprocess
import sys

import pytest

from parbench.bench.profile.heap import FIRST_BOUND, SLACK, Heap

MIB = 2**20
# Blocks aligned to 64 bytes, as torch asks for them; what malloc has from the kernel is read after each.
REAL = """
import ctypes, json, sys
libc = ctypes.CDLL("libc.so.6")
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]
libc.mallinfo2.restype = Info
libc.free.argtypes = [ctypes.c_void_p]
libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: keep the heap's end
if sys.argv[1] == "fixed":
    libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
blocks, taken = {}, []
start = libc.mallinfo2()
for name, size in json.load(sys.stdin):
    if size:
        where = ctypes.c_void_p()
        assert libc.posix_memalign(ctypes.byref(where), ctypes.c_size_t(64), ctypes.c_size_t(size)) == 0
        blocks[name] = where.value
    else:
        libc.free(blocks.pop(name))
    info = libc.mallinfo2()
    taken.append((info.arena + info.hblkhd - start.arena - start.hblkhd))
json.dump(taken, sys.stdout)
"""


def events(seed, smallest, largest, count=400):
    """Return placed and freed blocks by name; a freed one has no size."""
    chance = random.Random(seed)
    alive, found = [], []
    for name in range(count):
        found.append((name, 64 * chance.randint(smallest // 64, largest // 64)))
        alive.append(name)
        while len(alive) > 12:
            found.append((alive.pop(chance.randrange(len(alive))), 0))
    return found


def theirs(steps, bound):
    """Return the bytes that a process of its own has from the kernel after each step.

    Without the cache of small blocks, which for a few steps keeps the rests beside large ones.
    """
    return json.loads(
        subprocess.run(
            [sys.executable, "-I", "-c", REAL, bound],
            input=json.dumps(steps),
            capture_output=True,
            text=True,
            check=True,
            env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
        ).stdout
    )


def ours(steps, heap):
    blocks, taken = {}, []
    for name, size in steps:
        if size:
            blocks[name] = heap.allocate(size)
        else:
            heap.free(blocks.pop(name))
        taken.append(heap.size + heap.mapped)
    return taken


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc")
def test_the_heap_grows_as_glibcs_does():
    """Of random blocks: where one of several holes is taken, all that follow differ, so it is the mean that is held."""
    ratios = []
    for seed in range(12):
        steps = events(seed, MIB // 4, 8 * MIB)
        ratios.append(max(ours(steps, Heap(32 * MIB))) / max(theirs(steps, "fixed")))
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.03)
    assert all(ratio == pytest.approx(1, abs=0.15) for ratio in ratios)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc")
def test_the_bound_of_mapped_blocks_rises_as_it_does_in_glibc():
    sizes = [(0, 4), (0, 0), (1, 3), (2, 40), (2, 0), (3, 5), (4, 2), (3, 0), (5, 4)]
    steps = [(name, size * MIB) for name, size in sizes]
    assert ours(steps, Heap()) == pytest.approx(theirs(steps, "rising"), abs=MIB // 4)


def test_a_hole_beside_a_pinned_rest_does_not_fit_the_next_block():
    """By hand: of two blocks that autograd records one goes, and its hole is 96 bytes too small for the next."""
    heap = Heap()
    passing, kept = FIRST_BOUND // 4, FIRST_BOUND // 2
    for count in range(1, 4):
        block = heap.allocate(passing, recorded=True)
        heap.allocate(kept, recorded=True)
        heap.free(block)
        assert heap.size == count * (passing + kept + 2 * SLACK)
    heap.end_graph()
    heap.allocate(passing)
    assert heap.size == heap.peak == 3 * (passing + kept + 2 * SLACK)


def test_large_blocks_are_mapped_and_given_back():
    heap = Heap()
    block = heap.allocate(64 * MIB)
    assert (heap.size, heap.mapped) == (0, 64 * MIB)
    heap.free(block)
    assert (heap.size, heap.mapped, heap.peak) == (0, 0, 64 * MIB)
