"""Prompts with images as rows of a data set: decoded and put together with their texts one by one, on access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.data.images import decoded, images_of
from parbench.tasks.kinds.special_tokens import closed_ids, continuing_ids

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

# What processors return per token of the text; everything else describes images.
PER_TOKEN = ("token_type_ids", "mm_token_type_ids")
# Of a model with an encoder and a decoder: what it has written before each of the labels.
DECODER = "decoder_input_ids"
# More than any model takes.
_ANY_LENGTH = 1 << 30


@dataclass(frozen=True)
class ImageTextRows:
    """Rows that are decoded on access: only the encoded images, or their paths, and the texts are kept.

    Attributes:
        dataset: the images, not decoded, see `parbench.tasks.data.images.images_of`, and ``example``.
        prompts: of each row the text, with the processor's token for an image where each is.
        responses: of each row what is trained on; ``None`` leaves rows to generate from.
        processor: makes inputs of images and text.
        max_length: tokens of prompt, images and response.
        image_size: height and width to which images are resized; the processor's own if ``None``.
        closed: whether an end of text follows each response.
    """

    dataset: Dataset
    prompts: Sequence[str]
    responses: Sequence[str] | None
    processor: Any
    max_length: int
    image_size: int | None = None
    closed: bool = True

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, indices: Sequence[int]) -> ImageTextRows:
        """Return the rows at ``indices``, in that order; one may be there several times."""
        return replace(
            self,
            dataset=self.dataset.select(indices),
            prompts=[self.prompts[index] for index in indices],
            responses=None if self.responses is None else [self.responses[index] for index in indices],
        )

    def text_ids(self) -> Iterator[list[int]]:
        """Yield the tokens of each prompt as it is without its images, and of its response."""
        for row, prompt in enumerate(self.prompts):
            text = prompt if self.responses is None else f"{prompt}{self.responses[row]}"
            yield self.processor.tokenizer(text.replace(getattr(self.processor, "image_token", ""), ""))["input_ids"]

    def encoder_lengths(self) -> Iterator[int]:
        """Yield the tokens of each whole prompt that an encoder reads; nothing of a decoder, which cuts none."""
        if self._starts_from is None:
            return iter(())
        image = getattr(self.processor, "image_token", "")
        return (len(self.processor.tokenizer(prompt.replace(image, ""))["input_ids"]) for prompt in self.prompts)

    def needed_length(self, row: int) -> int:
        """Return the ``max_length`` from which on a row's response is whole; an end of text behind it may be cut."""
        whole = replace(self, max_length=_ANY_LENGTH, closed=False)[row]
        # A decoder of its own has a token in front of what it writes.
        return len(whole["labels"]) - (DECODER in whole)

    def with_responses(self, responses: Sequence[str] | None) -> ImageTextRows:
        """Return the same prompts with other responses."""
        return replace(self, responses=responses)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return ``input_ids`` and ``labels`` as lists, and what the processor makes of the images as tensors.

        A response that is too long loses its end. Of a model that reads the prompt in an encoder, ``input_ids`` are the
        prompt's, which loses its last words where it is too long, and ``decoder_input_ids`` are as long as ``labels``.

        Raises:
            UserError: an image cannot be decoded, or the prompt with its images leaves no room for a response.
        """
        from parbench.tasks.inference import IGNORED

        encoded = self._encoded(row)
        tokenizer = self.processor.tokenizer
        ids = encoded.pop("input_ids")[0].tolist()
        encoded.pop("attention_mask", None)
        start = self._starts_from
        if start is not None:
            written = [start, *self._response(row, self.max_length)]
            if len(ids) > self.max_length:
                # As tokenizers cut: the end of text that an encoder knows texts to have stays.
                ends = ids[-1:] if ids[-1] == tokenizer.eos_token_id else []
                ids = [*ids[: self.max_length - len(ends)], *ends]
            return {"input_ids": ids, DECODER: written, "labels": [IGNORED, *written[1:]], **encoded}
        # The end of text that some tokenizers put behind every text.
        kept = len(ids) - (ids[-1] == tokenizer.eos_token_id)
        room = self.max_length - kept
        if room < 1:
            raise UserError(
                f"example {self.dataset[row]['example']} has {kept} tokens with its images, and train.max_length is "
                f"{self.max_length}; raise it by {1 - room} or more"
            )
        response = self._response(row, room)
        names = [name for name in PER_TOKEN if name in encoded]
        per_token = {name: _extended(encoded.pop(name)[0][:kept], len(response)) for name in names}
        return {
            "input_ids": ids[:kept] + response,
            "labels": [IGNORED] * kept + response,
            **per_token,
            **encoded,
        }

    @property
    def _starts_from(self) -> int | None:
        """The token that a decoder of its own starts from; ``None`` where the model has no encoder."""
        return getattr(self.processor, "decoder_start_token_id", None)

    def _response(self, row: int, most: int) -> list[int]:
        """Return at most so many tokens of a response."""
        if self.responses is None:
            return []
        tokenizer = self.processor.tokenizer
        # What a decoder of its own writes begins as every text of its tokenizer does.
        begin = [] if self._starts_from is None else [tokenizer.bos_token_id]
        ids = [*begin, *continuing_ids(self.responses[row], tokenizer)]
        return (closed_ids(ids, tokenizer) if self.closed else ids)[:most]

    def _encoded(self, row: int) -> dict[str, Any]:
        example = self.dataset[row]
        images = [
            decoded(image, f"image {number} of example {example['example']}")
            for number, image in enumerate(images_of(example), start=1)
        ]
        prompt = self.prompts[row]
        begin = self.processor.tokenizer.bos_token
        changes: dict[str, Any] = {"add_special_tokens": False} if begin and prompt.startswith(begin) else {}
        if self.image_size is not None:
            size = {"height": self.image_size, "width": self.image_size}
            changes |= {"size": size, "do_center_crop": False}
        return dict(self.processor(text=[prompt], images=[images], return_tensors="pt", **changes))


def _extended(values: torch.Tensor, count: int) -> torch.Tensor:
    """Return values per token, with zeros for ``count`` more: those of a text."""
    import torch

    return torch.cat([values, values.new_zeros(count)])


def batch_of(rows: Sequence[dict[str, Any]], pad: int, left: bool = False) -> dict[str, torch.Tensor]:
    """Return a batch of rows, padded on the right, or on the ``left`` to generate from.

    Tensors of images are put one behind the other, filled up with zeros where their sizes differ, as transformers'
    processors do for a batch.

    Args:
        rows: of `ImageTextRows`.
        pad: the padding token.
        left: the side.
    """
    import torch

    from parbench.tasks.inference import IGNORED

    def padded(values: Sequence[Any], fill: int) -> torch.Tensor:
        longest = max(map(len, values))
        lines = []
        for value in values:
            line = torch.as_tensor(value)
            filling = line.new_full((longest - len(line),), fill)
            lines.append(torch.cat([filling, line] if left else [line, filling]))
        return torch.stack(lines)

    batch = {
        "input_ids": padded([row["input_ids"] for row in rows], pad),
        "attention_mask": padded([torch.ones(len(row["input_ids"]), dtype=torch.int64) for row in rows], 0),
        "labels": padded([row["labels"] for row in rows], IGNORED),
    }
    for name in rows[0]:
        if name in (*PER_TOKEN, DECODER):
            batch[name] = padded([row[name] for row in rows], pad if name == DECODER else 0)
        elif name not in batch:
            batch[name] = _joined([row[name] for row in rows])
    return batch


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate along the first dimension; the others are filled up with zeros at their ends."""
    import torch
    from torch.nn import functional

    sizes = [max(lengths) for lengths in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    filled = []
    for tensor in tensors:
        missing = [(0, size - own) for size, own in zip(sizes, tensor.shape[1:], strict=True)]
        # torch counts the dimensions from the last.
        filled.append(functional.pad(tensor, [end for pair in reversed(missing) for end in pair]))
    return torch.cat(filled)
