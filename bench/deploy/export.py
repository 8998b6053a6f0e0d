"""Writes the adapter of a finished run as a folder for peft, a serving engine or the hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from peft import PeftModel
from transformers import PreTrainedModel

from parbench.bench.deploy.conversion import CannotConvertError, ConvertedLora, to_lora
from parbench.bench.deploy.lora_files import write_lora
from parbench.bench.deploy.trained import TrainedRun
from parbench.bench.record.deployment import size_in_words
from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import writing
from parbench.methods.adapter_files import CARD

Form = Literal["as trained", "lora", "merged"]


@dataclass(frozen=True)
class Converted:
    """What a conversion to LoRA has left of an adapter.

    Attributes:
        size: that was asked for: a rank, or a share of the updates' energy.
        numbers: in its factors.
        bytes: of its file, the task head included.
        error: Frobenius norm of what is lost of the weight updates, as a share of theirs.
    """

    size: int | float
    numbers: int
    bytes: int
    error: float


def export(
    trained: TrainedRun, form: Form, rank: int | float, target: Path, card: Callable[[Converted | None], str]
) -> None:
    """Write a folder that must not be there yet; all of it or nothing.

    Args:
        trained: the run.
        form: the adapter as it is; converted to LoRA; or merged into the base model, in float32, with the tokenizer
            or image processor beside it.
        rank: of a LoRA, see `parbench.bench.deploy.conversion.to_lora`.
        target: the folder.
        card: returns the text of its README.md, from what a conversion has left.

    Raises:
        UserError: it is there, cannot be written to, or the adapter has no such form.
    """
    if target.exists():
        raise UserError(f'"{target}" is there already; name a new folder, or remove it')
    with writing(target, "another --to"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
            folder = Path(name) / "export"
            converted = _write(trained, form, rank, folder)
            (folder / CARD).write_text(card(converted), encoding="utf-8")
            folder.rename(target)


def _write(trained: TrainedRun, form: Form, rank: int | float, folder: Path) -> Converted | None:
    if form == "as trained":
        shutil.copytree(trained.folder, folder)
    elif form == "merged":
        merged(trained).save_pretrained(str(folder))
        spec = trained.record.spec
        processor = trained.planned.base_model.processor(trained.planned.task.modality, spec.model_revision)
        processor.save_pretrained(str(folder))
    else:
        lora = _converted(trained, rank)
        return Converted(rank, lora.numbers, write_lora(lora, folder), lora.error)
    return None


def merged(trained: TrainedRun) -> PreTrainedModel:
    """Return the base model of a run with its adapter merged, in float32.

    Raises:
        UserError: it cannot be merged.
    """
    model: Any = trained.model(trained.base(dequantised=True))
    if not trained.is_adapter:
        return cast(PreTrainedModel, model)
    try:
        return cast(PreTrainedModel, model.merge_and_unload())
    except Exception as error:  # whatever a tuner raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the adapter of {trained.record.spec.method} cannot be merged: {reason}") from error


def _converted(trained: TrainedRun, rank: int | float) -> ConvertedLora:
    name = trained.record.spec.method
    if not trained.is_adapter:
        raise UserError(f"{name} trains weights of the base model itself, which are no LoRA; export it with --merged")
    model = cast(PeftModel, trained.model(trained.base(dequantised=True)))
    try:
        return to_lora(model, rank)
    except CannotConvertError as error:
        raise UserError(
            f"the adapter of {name} cannot be converted to a LoRA of {size_in_words(rank)}: {error}"
        ) from error


def upload(folder: Path, repository: str, endpoint: str | None = None) -> str:
    """Upload a folder to a private repository of the hub with the user's own token; return the address of the commit.

    Args:
        folder: what is uploaded.
        repository: ``OWNER/NAME``; it is made if need be.
        endpoint: of the hub, in place of the usual one.

    Raises:
        UserError: there is no token, or the hub refuses.
    """
    token = get_token()
    if token is None:
        raise UserError("there is no token for the hub; log in with: hf auth login, or set HF_TOKEN")
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload adapter"))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{repository} cannot be written to: {reason}") from error
