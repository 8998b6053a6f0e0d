"""The judge that a task's options name: an endpoint, or the run's own base model."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.client import JudgeClient
from parbench.tasks.judge.in_process import InProcessJudge
from parbench.tasks.judge.outcome import Judge
from parbench.tasks.judge.spec import ApiKey, JudgeSpec

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor

LOCAL = "local"

# A small model does not keep to the form that FastChat's prompts ask for. So the local judge's reply is begun for it,
# and what is left to write is a number.
LOCAL_BEGINS, LOCAL_TOKENS = "Rating: [[", 8


def missing_judge(judge: str | None) -> str | None:
    """Return why a judge cannot be asked, as far as this is known without asking it."""
    if judge is None:
        return "its answers need a judge; name one with --judge MODEL@URL, or --judge local to try the path"
    if judge == LOCAL:
        return None
    if importlib.util.find_spec("openai") is None:
        return 'asking a judge needs openai; install it: pip install "parbench[judge]"'
    try:
        ApiKey.from_environment(JudgeSpec.parse(judge))
    except UserError as error:
        return str(error)
    return None


@contextmanager
def chosen_judge(judge: str | None, predictor: Predictor) -> Iterator[Judge]:
    """Connect to the judge that is named, or make one of the untuned base model.

    Raises:
        UserError: none is named, it cannot be asked, or the base model cannot be loaded here.
    """
    if judge is None:
        raise UserError(str(missing_judge(None)))
    if judge != LOCAL:
        with JudgeClient(JudgeSpec.parse(judge)) as client:
            yield client
        return
    if predictor.base is None:
        raise UserError("the base model that is to judge cannot be loaded here; name another judge than local")
    model: Any = predictor.base()
    name = f"untuned-base-{_digest(model, predictor.processor)}"
    warnings.warn(
        f"judged by the untuned base model itself ({name}): such ratings show that the path works, and nothing else",
        UserWarning,
        stacklevel=3,
    )
    yield InProcessJudge(model, predictor.processor, name, max_new_tokens=LOCAL_TOKENS, begins=LOCAL_BEGINS)


def _digest(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return twelve digits that change with the judge: judgments are kept under its name."""
    import torch

    total = hashlib.sha256(repr((LOCAL_BEGINS, LOCAL_TOKENS, tokenizer.chat_template)).encode())
    for name, tensor in model.state_dict().items():
        total.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()[:12]
