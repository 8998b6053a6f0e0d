"""A training loop for LoRA-Gen on (system prompt, input, response) triples, given as token ids.

Table 10 gives optimiser, learning rate, schedule, batch size, epochs and length: the defaults of `TrainingConfig`,
available as `PAPER`. Choices where the paper leaves it open: the loss is on the response only; the system prompt, and
input with response, may each have 2048 tokens; weight decay applies to all trained parameters; gradients are not
clipped; the last, shorter batch of an epoch is kept. The paper's batch of 64 was split over eight devices, so that
BatchNorm, unless synchronised, saw 8 samples at a time: ``micro_batch_size=8`` is closest to that.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import get_cosine_schedule_with_warmup

from .model import WEIGHTS_FILE, LoraGen

_PROGRESS_FILE = "progress.pt"
_IGNORED = -100


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        system_prompt: tokens of the cloud's vocabulary.
        input: tokens of the edge's vocabulary, at least one.
        response: tokens of the edge's vocabulary, at least one; an end-of-text token is not added.
    """

    system_prompt: Sequence[int]
    input: Sequence[int]
    response: Sequence[int]


@dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of training; the defaults are Table 10's.

    Attributes:
        learning_rate: peak learning rate of AdamW.
        betas: of AdamW.
        weight_decay: of AdamW, on all trained parameters.
        warmup_steps: optimiser steps with a linearly rising learning rate, which then falls to 0 along a cosine.
        batch_size: examples per optimiser step.
        micro_batch_size: examples per forward pass, over which BatchNorm and the balance loss are computed; default:
            the whole batch.
        epochs: passes over the examples.
        max_length: most tokens of a system prompt, and of input with response.
        max_gradient_norm: maximal norm of gradients; default: gradients are not clipped.
        precision: of the forward passes: ``"bfloat16"`` is autocast.
        seed: of the order of the examples.
        checkpoint_steps: optimiser steps between checkpoints.
    """

    learning_rate: float = 2e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.1
    warmup_steps: int = 50
    batch_size: int = 64
    micro_batch_size: int | None = None
    epochs: int = 4
    max_length: int = 2048
    max_gradient_norm: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    checkpoint_steps: int = 50

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "epochs", "max_length", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"TrainingConfig: {name}={value!r}; give an integer of at least 1")


PAPER = TrainingConfig()


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes:
        number: counted from 1.
        lm_loss: mean over the batch's response tokens.
        cv_loss: mean over the batch's forward passes.
        learning_rate: of the step.
    """

    number: int
    lm_loss: float
    cv_loss: float
    learning_rate: float

    @property
    def loss(self) -> float:
        """The minimised loss."""
        return self.lm_loss + self.cv_loss


def train(
    lora_gen: LoraGen,
    examples: Sequence[Example],
    config: TrainingConfig = PAPER,
    folder: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> list[Step]:
    """Train in place; leaves the module in evaluation mode.

    Args:
        lora_gen: the module, on the device for training.
        examples: the training data.
        config: the hyper-parameters.
        folder: folder of checkpoints; training is resumed from the last one there, with the same result as without an
            interruption.
        on_step: called after every step of this call.

    Returns:
        All steps, including those before an interruption.

    Raises:
        ValueError: examples are missing, empty or too long, or the checkpoint is from another training.
        RuntimeError: the loss is no longer finite.
    """
    _check(examples, config)
    parameters = [parameter for parameter in lora_gen.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    total = config.epochs * -(-len(examples) // config.batch_size)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, total)
    progress = _Progress(lora_gen, optimizer, schedule, asdict(config) | {"examples": len(examples)})
    done = progress.load(folder) if folder is not None else []
    lora_gen.train()
    for number, batch in enumerate(_batches(len(examples), config), start=1):
        if number <= len(done):
            continue
        rate = schedule.get_last_lr()[0]
        lm_loss, cv_loss = _backward(lora_gen, [examples[index] for index in batch], config)
        step = Step(number, lm_loss, cv_loss, rate)
        if not torch.isfinite(torch.tensor(step.loss)):
            raise RuntimeError(f"the loss is {step.loss} at step {number}; lower the learning rate")
        if config.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done.append(step)
        if folder is not None and (number % config.checkpoint_steps == 0 or number == total):
            progress.save(folder, done)
        if on_step is not None:
            on_step(step)
    lora_gen.eval()
    return done


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Return a batch for `LoraGen`: padded on the right, with labels on the responses only."""
    prompts = [torch.tensor(example.system_prompt, dtype=torch.long) for example in examples]
    texts = [torch.tensor([*example.input, *example.response], dtype=torch.long) for example in examples]
    labels = [text.clone() for text in texts]
    for example, label in zip(examples, labels, strict=True):
        label[: len(example.input)] = _IGNORED
    return {
        "system_prompt_ids": pad_sequence(prompts, batch_first=True),
        "system_prompt_mask": pad_sequence([torch.ones_like(prompt) for prompt in prompts], batch_first=True),
        "input_ids": pad_sequence(texts, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=_IGNORED),
    }


def _check(examples: Sequence[Example], config: TrainingConfig) -> None:
    if not examples:
        raise ValueError("there are no examples to train on; give at least one")
    for number, example in enumerate(examples):
        if not (example.system_prompt and example.input and example.response):
            raise ValueError(f"example {number} has an empty system prompt, input or response; leave it out")
        longest = max(len(example.system_prompt), len(example.input) + len(example.response))
        if longest > config.max_length:
            raise ValueError(f"example {number} has {longest} tokens; shorten it to max_length={config.max_length}")


def _batches(count: int, config: TrainingConfig) -> Iterator[list[int]]:
    for epoch in range(config.epochs):
        # Depends on seed and epoch only, so that a resumed training has the same order.
        order = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)).tolist()
        yield from (order[start : start + config.batch_size] for start in range(0, count, config.batch_size))


def _backward(lora_gen: LoraGen, batch: Sequence[Example], config: TrainingConfig) -> tuple[float, float]:
    """Add the batch's gradients, forward pass by forward pass, and return lm_loss and cv_loss."""
    size = config.micro_batch_size or len(batch)
    tokens = sum(len(example.response) for example in batch)
    device = lora_gen.edge.device.type
    losses = [0.0, 0.0]
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bfloat16"):
            output = lora_gen(**collate(part))
        # The mean over all tokens of the batch, not of the pass.
        lm_loss = output.lm_loss * (sum(len(example.response) for example in part) / tokens)
        cv_loss = output.cv_loss.to(lm_loss.device) * (len(part) / len(batch))
        (lm_loss + cv_loss).backward()
        losses = [losses[0] + lm_loss.item(), losses[1] + cv_loss.item()]
    return losses[0], losses[1]


@dataclass(frozen=True)
class _Progress:
    """Checkpoints with everything that the next step depends on."""

    lora_gen: LoraGen
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    identity: dict[str, Any]

    def save(self, folder: Path, done: Sequence[Step]) -> None:
        """Write ``checkpoint-<steps>`` and remove those before."""
        before = _checkpoints(folder)
        target, unfinished = folder / f"checkpoint-{len(done)}", folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self.lora_gen.save_pretrained(unfinished)
        torch.save(
            {
                "identity": self.identity,
                "steps": [asdict(step) for step in done],
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
            unfinished / _PROGRESS_FILE,
        )
        # Renamed when complete.
        unfinished.rename(target)
        for old in before:
            shutil.rmtree(old)

    def load(self, folder: Path) -> list[Step]:
        """Resume from the newest checkpoint and return the steps done; an empty list without a checkpoint."""
        found = _checkpoints(folder)
        if not found:
            return []
        state = torch.load(found[-1] / _PROGRESS_FILE, map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            different = sorted(name for name in self.identity if state["identity"].get(name) != self.identity[name])
            raise ValueError(
                f"{found[-1]} is from another training: it differs in {', '.join(different)}; "
                "give the settings it was started with, or another folder"
            )
        self.lora_gen.load_trainable_state(load_file(found[-1] / WEIGHTS_FILE))
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["cpu"])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        return [Step(**step) for step in state["steps"]]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest last."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
