"""A judge in this process: a transformers model that answers without any endpoint.

For tests, and for a suite that has no outside judge: a small model's ratings mean nothing, they show that the path
works.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.conversation import messages_prompt
from parbench.tasks.judge.outcome import Failure, FailureKind, Message, Reply, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class InProcessJudge:
    """A causal language model as a judge. One answer is generated at a time.

    The model is put into evaluation mode and left there. The instructions with which its prompts begin are read once,
    where transformers supports it (see `parbench.tasks.prefix_cache`); its weights must not change meanwhile.

    Args:
        model: on the device where it shall run.
        tokenizer: the model's.
        name: of the judge. Judgments are cached under it, so it must change with the weights.
        template: see `parbench.tasks.judge.conversation.messages_prompt`.
        max_new_tokens: ends answers earlier than the sampling asks for; the finish reason then is ``length``.
        begins: the beginning of every answer, which the model continues: a small model does not keep to a form by
            itself.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        template: str | None = None,
        max_new_tokens: int | None = None,
        begins: str = "",
    ) -> None:
        import torch

        from parbench.tasks.prefix_cache import PrefixCache
        from parbench.tasks.shared_prompts import shares_prompts

        self._model = model.eval()
        self._prefixes = PrefixCache(model) if shares_prompts(model) else None
        self._tokenizer = tokenizer
        self._name = name
        self._template = template
        self._max_new_tokens = max_new_tokens
        self._begins = begins
        self._busy = threading.Lock()
        self._torch_threads = torch.get_num_threads()
        self._answered = 0

    @property
    def model(self) -> str:
        """The judge's name."""
        return self._name

    def ask(self, messages: tuple[Message, ...], sampling: Sampling, stop: threading.Event) -> Reply | Failure:
        """Return the model's answer, or why there is none."""
        with self._busy:
            if stop.is_set():
                return Failure(FailureKind.STOPPED, "the judge was not asked any more", attempts=0)
            try:
                return self._answer(messages, sampling)
            except UserError as error:
                return Failure(FailureKind.REJECTED, str(error))

    def _answer(self, messages: tuple[Message, ...], sampling: Sampling) -> Reply | Failure:
        """Return the answer to a prompt.

        Raises:
            UserError: the chat cannot be expressed by the template, or is longer than the model's context.
        """
        prompt = messages_prompt(messages, self._tokenizer, self._template)
        ids = replace(prompt, text=prompt.text + self._begins).open_ids(self._tokenizer)
        limit = min(sampling.max_tokens, self._max_new_tokens or sampling.max_tokens)
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None:
            if len(ids) >= room:
                raise UserError(f"the prompt has {len(ids)} tokens and the model's context holds {room}")
            limit = min(limit, room - len(ids))
        ends = _ends(self._model) | set(prompt.stop_token_ids)
        written = self._generate(ids, sampling.temperature, limit, ends)
        whole = self._begins + str(self._tokenizer.decode(written, skip_special_tokens=True))
        text = prompt.finish(whole)
        ended = (written and written[-1] in ends) or any(stop in whole for stop in prompt.stops)
        if not text:
            kind = FailureKind.EMPTY if ended else FailureKind.OUT_OF_TOKENS
            return Failure(kind, "the judge's answer is empty")
        return Reply(text, "stop" if ended else "length", self._name, len(ids), len(written))

    def _generate(self, ids: list[int], temperature: float | None, limit: int, ends: set[int]) -> list[int]:
        import torch

        model: Any = self._model
        temperature = 1.0 if temperature is None else temperature
        sampling = {"temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {}
        pad = self._tokenizer.pad_token_id
        on_device = [] if model.device.type == "cpu" else [model.device]
        # A judge may sample, but not with the random numbers of a training in the same process.
        with torch.inference_mode(), torch.random.fork_rng(on_device, device_type=model.device.type):
            torch.manual_seed(self._answered)
            self._answered += 1
            # A new thread begins with as many threads of its own as the machine has cores.
            torch.set_num_threads(self._torch_threads)
            tokens = torch.tensor([ids], device=model.device)
            begun = {} if self._prefixes is None else {"past_key_values": self._prefixes.begin(ids)}
            generated = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=limit,
                eos_token_id=sorted(ends) or None,
                pad_token_id=self._tokenizer.eos_token_id if pad is None else pad,
                do_sample=bool(sampling),
                **begun,
                **sampling,
            )
        return [int(token) for token in generated[0, len(ids) :]]


def _ends(model: PreTrainedModel) -> set[int]:
    config = model.generation_config
    end = None if config is None else config.eos_token_id
    return set(end) if isinstance(end, list) else set() if end is None else {end}
