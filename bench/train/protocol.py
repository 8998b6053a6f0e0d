"""The rules of selection and reporting, and the lock on the reported split that enforces them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

# Not at run time: suites and the command line use the names of protocols, which must load in no time.
if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.bench.train.train import Trained
    from parbench.tasks.inference import Rows


class Protocol(StrEnum):
    """Which epoch is reported, and on what it was chosen.

    ``strict`` scores the reported split once, after training; all choices are made on the selection split.
    ``paper:best_epoch`` scores the reported split after every epoch and reports the best epoch, as the GLUE numbers of
    LoRA (arXiv 2106.09685), FourierFT (2405.03003) and LoCA (2502.06820) do. Its scores are biased upwards by the
    variation between epochs, and are only comparable with such numbers.
    """

    STRICT = "strict"
    PAPER_BEST_EPOCH = "paper:best_epoch"


class Purpose(StrEnum):
    """What a run is for: to be reported, or to choose hyper-parameters, which never uses the reported split."""

    REPORT = "report"
    SELECTION = "selection"


class SealedError(RuntimeError):
    """The reported split was requested although the protocol forbids it: a bug of this program."""


@dataclass(frozen=True)
class SplitData:
    """One split: its examples, as metrics need them, and the model inputs in the same order."""

    rows: Dataset
    inputs: Rows


class ReportedSplit:
    """The reported split of one run, accessible only as its protocol allows.

    Args:
        load: makes the model inputs; called when access is allowed.
        protocol: the protocol of the run.
        purpose: the purpose of the run.
    """

    def __init__(self, load: Callable[[], SplitData], protocol: Protocol, purpose: Purpose) -> None:
        self._load = load
        self._protocol = protocol
        self._purpose = purpose
        self._given = False

    def after(self, trained: Trained) -> SplitData:
        """Return the split, once; ``trained`` is the evidence that training is over.

        Raises:
            SealedError: it was returned before, or the run chooses hyper-parameters.
        """
        self._refuse_selection()
        if self._given:
            raise SealedError("the reported split was scored already; a run does so once")
        self._given = True
        return self._load()

    def every_epoch(self) -> SplitData:
        """Return the split during training, as ``paper:best_epoch`` requires.

        Raises:
            SealedError: under any other protocol.
        """
        self._refuse_selection()
        if self._protocol is not Protocol.PAPER_BEST_EPOCH:
            raise SealedError(f'protocol "{self._protocol}" shows the reported split after training only')
        return self._load()

    def _refuse_selection(self) -> None:
        if self._purpose is not Purpose.REPORT:
            raise SealedError("a run that chooses hyper-parameters never sees the reported split")
