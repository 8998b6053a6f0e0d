"""Jobs that train tiny models on made-up rows."""

import numpy as np
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job
from parbench.methods.base import ParameterGroup
from parbench.tasks.glue import SST2

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
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
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


def interrupt_at(step):
    def on_step(done, total, loss):
        if done == step:
            raise KeyboardInterrupt

    return on_step
