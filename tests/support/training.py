"""Jobs that train tiny models on made-up rows."""

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    TrainerCallback,
)

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job
from parbench.methods.base import ParameterGroup
from parbench.tasks.glue import SST2
from parbench.tasks.inference import IGNORED

ROWS = 16
CPU = torch.device("cpu")


def bert(num_labels=2):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=num_labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config)


def gpt2():
    torch.manual_seed(0)
    return GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=50,
            n_embd=16,
            n_layer=2,
            n_head=2,
            pad_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def llama(vocab_size=50):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def answers_to(ids):
    """Labels of texts of which the second half is an answer."""
    return [[IGNORED] * (len(row) // 2) + row[len(row) // 2 :] for row in ids]


def texts(labels=None):
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 9, ROWS)
    ids = [draw.integers(1, 50, length).tolist() for length in lengths]
    labels = labels if labels is not None else [number % 2 for number in range(ROWS)]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def collate(rows):
    if "pixel_values" in rows[0]:
        batch = {"pixel_values": torch.tensor([row["pixel_values"] for row in rows])}
    else:
        longest = max(len(row["input_ids"]) for row in rows)
        padded = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows]
        batch = {"input_ids": torch.tensor(padded)}
        batch["attention_mask"] = (batch["input_ids"] > 0).long()
    if "labels" in rows[0]:
        labels = [row["labels"] for row in rows]
        if isinstance(labels[0], list):
            labels = [row + [IGNORED] * (longest - len(row)) for row in labels]
        batch["labels"] = torch.tensor(labels)
    return batch


def job(tmp_path, model, data, rate=1e-3, task=SST2, **settings):
    names = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in names if "classifier" in name or "score" in name]
    rest = [p for name, p in names if "classifier" not in name and "score" not in name]
    return Job(
        model=model,
        groups=[ParameterGroup("adapter", rest, rate), ParameterGroup("head", head, 10 * rate)],
        callbacks=[],
        task=task,
        data=data,
        collate=collate,
        settings=TrainingSettings(**{"max_steps": 2, "batch_size": 4, "warmup_ratio": 0.0, **settings}),
        seed=1,
        device=CPU,
        workspace=tmp_path,
    )


class FirstGradient(TrainerCallback):
    """Keeps the gradient of the first optimiser step."""

    found = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.found is None:
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradient(found, expected):
    """Compare gradients in float64, up to the rounding of the largest number."""
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10 * scale)


def interrupt_at(step):
    def on_step(done, total, loss):
        if done == step:
            raise KeyboardInterrupt

    return on_step
