"""The rules of selection and reporting, and the lock on the reported split that makes them hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.bench.train.train import Trained
    from parbench.tasks.inference import Rows


class Protocol(StrEnum):
    """Which epoch is reported, and on what it was chosen.

    ``strict`` scores the reported split once, after training; whatever is chosen is chosen on the selection split.
    ``paper:best_epoch`` scores the reported split after every epoch and reports the best of them, as the GLUE numbers
    of LoRA (arXiv 2106.09685), FourierFT (2405.03003) and LoCA (2502.06820) do: it flatters a method by what its score
    moves between epochs, and serves to compare with such numbers only.
    """

    STRICT = "strict"
    PAPER_BEST_EPOCH = "paper:best_epoch"


class Purpose(StrEnum):
    """What a run is for: a number to report, or the choice of hyper-parameters, which never sees the reported split."""

    REPORT = "report"
    SELECTION = "selection"


class SealedError(RuntimeError):
    """The reported split was asked for when the protocol forbids it: a fault of this program, never of its user."""


@dataclass(frozen=True)
class SplitData:
    """One split: its examples as metrics need them, and the model inputs, row by row the same."""

    rows: Dataset
    inputs: Rows


class ReportedSplit:
    """The reported split of one run, given out as its protocol allows and never otherwise.

    Args:
        load: makes the model inputs; not called before they may be seen.
    """

    def __init__(self, load: Callable[[], SplitData], protocol: Protocol, purpose: Purpose) -> None:
        self._load = load
        self._protocol = protocol
        self._purpose = purpose
        self._given = False

    def after(self, trained: Trained) -> SplitData:
        """Return the split, once; the caller shows by ``trained`` that training is over.

        Raises:
            SealedError: it was given out before, or the run is to choose hyper-parameters.
        """
        self._refuse_selection()
        if self._given:
            raise SealedError("the reported split was scored already; a run does so once")
        self._given = True
        return self._load()

    def every_epoch(self) -> SplitData:
        """Return the split while training goes on, which is what ``paper:best_epoch`` means.

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
