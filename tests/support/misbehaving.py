"""Methods that go wrong in every way there is, offered to a child process as an outside package."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from transformers import TrainerCallback

from parbench.bench.util.reference import Reference
from parbench.methods.lora import Lora, LoraSetting


class _At(TrainerCallback):
    def __init__(self, step, do):
        self._step = step
        self._do = do

    def on_step_end(self, args, state, control, **kwargs):
        if self._step in (None, state.global_step):
            self._do(kwargs["model"])


class Misbehaving(Lora):
    reference = Reference("None", 2026, "nowhere")
    setting_type = LoraSetting

    def __init__(self, name, do, step=3):
        self.name = name
        self._do = do
        self._step = step

    def callbacks(self, setting):
        return [_At(self._step, self._do)]


def _raise(error):
    def do(model):
        raise error

    return do


def _grow(model):
    kept = []
    while True:
        kept.append(bytearray(64 << 20))
        time.sleep(0.01)


def _poison(model):
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))


def _once(do):
    """Return what goes wrong the first time only: a file beside this one remembers."""

    def first(model):
        marker = Path(__file__).with_name("went_wrong")
        if not marker.exists():
            marker.touch()
            do(model)

    return first


def _exit(model):
    sys.stderr.write("last words\n")
    os._exit(7)


SEGFAULT = Misbehaving("segfault", lambda model: ctypes.string_at(0))
HANG = Misbehaving("hang", lambda model: time.sleep(3600))
OOM = Misbehaving("oom", _raise(MemoryError("no more")))
GROW = Misbehaving("grow", _grow)
NAN = Misbehaving("nan", _poison)
RAISES = Misbehaving("raises", _raise(RuntimeError("a fault of its own")))
EXITS = Misbehaving("exits", _exit)
KILLED_ONCE = Misbehaving("killed_once", _once(lambda model: os.kill(os.getpid(), signal.SIGKILL)))
LOST_ONCE = Misbehaving("lost_once", _once(_raise(ConnectionResetError("the line is dead"))))
SLOW = Misbehaving("slow", lambda model: time.sleep(2), step=5)
CRAWLS = Misbehaving("crawls", lambda model: time.sleep(0.1), step=None)
