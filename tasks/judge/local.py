"""Serves a transformers model on this machine as an OpenAI-compatible endpoint.

For tests, and for a suite that has no outside judge: a small model's ratings mean nothing, they show that the path
works.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.conversation import messages_prompt
from parbench.tasks.judge.outcome import Message
from parbench.tasks.judge.spec import JudgeSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LARGEST_REQUEST = 8 * 2**20


class LocalJudgeServer:
    """A causal language model behind ``/v1/chat/completions`` on 127.0.0.1, at a free port, while a ``with`` lasts.

    One answer is generated at a time. The model is put into evaluation mode and left there.

    Args:
        model: on the device where it shall run.
        tokenizer: the model's.
        name: what the judge is called. Judgments are cached under it, so it must change with the weights.
        template: see `parbench.tasks.judge.conversation.messages_prompt`.
        max_new_tokens: ends answers earlier than a request asks for; the finish reason then is ``length``.
        begins: the beginning of every answer, which the model goes on from: a small model does not keep to a form by
            itself.
        port: of 127.0.0.1; a free one if 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        template: str | None = None,
        max_new_tokens: int | None = None,
        begins: str = "",
        port: int = 0,
    ) -> None:
        self.name = name
        self._model = model
        self._tokenizer = tokenizer
        self._template = template
        self._max_new_tokens = max_new_tokens
        self._begins = begins
        self._port = port
        self._busy = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._torch_threads = 1
        self._answered = 0

    @property
    def spec(self) -> JudgeSpec:
        """How to reach it.

        Raises:
            RuntimeError: it is not running.
        """
        if self._server is None:
            raise RuntimeError("the local judge is not running: use it in a with block")
        return JudgeSpec(self.name, f"http://127.0.0.1:{self._server.server_address[1]}/v1")

    def __enter__(self) -> Self:
        """Begin to serve.

        Raises:
            UserError: the port cannot be used.
        """
        import torch

        self._model.eval()
        self._torch_threads = torch.get_num_threads()
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        except (OSError, OverflowError) as error:
            raise UserError(f"the port {self._port} cannot be used ({error}); give another, or 0") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="local-judge", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def complete(self, request: Any) -> dict[str, Any]:
        """Return the chat completion of a request's body.

        Raises:
            UserError: the request is not one that this server understands, or too long for the model.
        """
        messages, temperature, limit = _checked(request, self.name)
        limit = min(limit, self._max_new_tokens or limit)
        prompt = messages_prompt(messages, self._tokenizer, self._template)
        ids = replace(prompt, text=prompt.text + self._begins).token_ids(self._tokenizer)
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None:
            if len(ids) >= room:
                raise UserError(f"the prompt has {len(ids)} tokens and the model's context holds {room}")
            limit = min(limit, room - len(ids))
        ends = _ends(self._model) | set(prompt.stop_token_ids)
        written = self._generate(ids, temperature, limit, ends)
        whole = self._begins + str(self._tokenizer.decode(written, skip_special_tokens=True))
        text = prompt.finish(whole)
        ended = (written and written[-1] in ends) or any(stop in whole for stop in prompt.stops)
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop" if ended else "length",
                }
            ],
            "usage": {
                "prompt_tokens": len(ids),
                "completion_tokens": len(written),
                "total_tokens": len(ids) + len(written),
            },
        }

    def _generate(self, ids: list[int], temperature: float, limit: int, ends: set[int]) -> list[int]:
        import torch

        model: Any = self._model
        sampling = {"temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {}
        pad = self._tokenizer.pad_token_id
        on_device = [] if model.device.type == "cpu" else [model.device]
        # A judge may roll dice, but not those of a training in the same process.
        with self._busy, torch.inference_mode(), torch.random.fork_rng(on_device, device_type=model.device.type):
            torch.manual_seed(self._answered)
            self._answered += 1
            # A new thread begins with as many threads of its own as the machine has cores.
            torch.set_num_threads(self._torch_threads)
            tokens = torch.tensor([ids], device=model.device)
            generated = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=limit,
                eos_token_id=sorted(ends) or None,
                pad_token_id=self._tokenizer.eos_token_id if pad is None else pad,
                do_sample=bool(sampling),
                **sampling,
            )
        return [int(token) for token in generated[0, len(ids) :]]


def _ends(model: PreTrainedModel) -> set[int]:
    config = model.generation_config
    end = None if config is None else config.eos_token_id
    return set(end) if isinstance(end, list) else set() if end is None else {end}


def _checked(request: Any, name: str) -> tuple[list[Message], float, int]:
    if not isinstance(request, dict):
        raise UserError("the request is no JSON object")
    if request.get("model") != name:
        raise UserError(f'there is no model "{request.get("model")}" here')
    if request.get("n", 1) != 1 or request.get("stream"):
        raise UserError("this server gives one answer, in one piece")
    messages = request.get("messages")
    whole = isinstance(messages, list) and all(
        isinstance(message, dict)
        and message.get("role") in ("system", "user", "assistant")
        and isinstance(message.get("content"), str)
        for message in messages
    )
    if not whole:
        raise UserError("the request's messages are not texts of system, user and assistant")
    temperature = request.get("temperature", 1.0)
    limit = request.get("max_completion_tokens", request.get("max_tokens", 256))
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise UserError("the request's temperature is not a number from 0 to 2")
    if not isinstance(limit, int) or limit < 1:
        raise UserError("the request's max_tokens is not a number above 0")
    return list(messages), float(temperature), limit  # type: ignore[arg-type]


def _handler(judge: LocalJudgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the body waits until the client has acknowledged the head.
        disable_nagle_algorithm = True
        timeout = 60

        def log_message(self, *arguments: object) -> None:
            return None

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self._send(200, {"object": "list", "data": [{"id": judge.name, "object": "model"}]})
            else:
                self._fail(404, "there is nothing at this path")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > _LARGEST_REQUEST:
                self.close_connection = True  # the body is left unread
                self._fail(413, "the request has no length or is too long")
                return
            body = self.rfile.read(int(length))
            if self.path != "/v1/chat/completions":
                self._fail(404, "there is nothing at this path")
                return
            try:
                answer = judge.complete(json.loads(body))
            except ValueError as error:  # a UserError is one
                self._fail(400, str(error))
            except RuntimeError as error:  # the device: out of memory, for instance
                self._fail(500, str(error))
            else:
                self._send(200, answer)

        def _fail(self, status: int, message: str) -> None:
            self._send(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

        def _send(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
