"""Methods that reveal a secret of the environment in every way there is, offered to a child process as a package."""

import logging
import os
import sys
import warnings

from transformers import TrainerCallback

from parbench.bench.util.reference import Reference
from parbench.methods.lora import Lora, LoraSetting

SECRET = os.environ.get("PLANTED_API_KEY", "")


class Tells(TrainerCallback):
    def __init__(self, end):
        self._end = end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step != 2:
            return
        sys.stdout.write(f"stdout {SECRET}\n")
        os.write(2, f"stderr {SECRET}\n".encode())
        warnings.warn(f"a warning of {SECRET}", UserWarning, stacklevel=1)
        logging.getLogger("telltale").warning("a log of %s", SECRET)
        self._end()


class Telltale(Lora):
    reference = Reference("None", 2026, "nowhere")
    setting_type = LoraSetting

    def __init__(self, name, end):
        self.name = name
        self._end = end

    def callbacks(self, setting):
        return [Tells(self._end)]


def _raise():
    raise RuntimeError(f"401 for https://there/?key={SECRET}")


def _die():
    sys.stderr.write(f"the last word is {SECRET}\n")
    sys.stderr.flush()
    os._exit(3)


TELLS = Telltale("tells", lambda: None)
TELLS_AND_RAISES = Telltale("tells_and_raises", _raise)
TELLS_AND_DIES = Telltale("tells_and_dies", _die)
