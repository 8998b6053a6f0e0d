"""Methods planted by their share of mistakes, on examples that are equally hard for all of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parbench.tasks.metrics.classification import METRICS
from tests.support.planter import COST, LEDGER, Planter, rows_with

N = 400
LABELS = (np.arange(N) < 240).astype(int)  # 60 % are of class 1
CONSTANT = 1.0  # the share of a method that answers 1 to nearly everything


def plant_shares(
    planter: Planter,
    methods: Mapping[str, float],
    tasks: Sequence[str] = ("glue/rte",),
    seeds: Sequence[int] = (0, 1, 2, 3),
    costs: Mapping[str, tuple[float, float, int]] | None = None,
    **spec: Any,
) -> dict[tuple[str, str], float]:
    """Plant accuracies, and return their means over the seeds by task and method.

    Args:
        planter: of the store.
        methods: by name the share of mistakes.
        tasks: all methods are planted on each.
        seeds: of each method.
        costs: by method its seconds of training, bytes of memory and number of parameters.
        **spec: what differs from the planter's.
    """
    means: dict[tuple[str, str], float] = {}
    for number, task in enumerate(tasks):
        hard = np.random.default_rng(number).random(N)
        for method, share in methods.items():
            seconds, memory, parameters = (costs or {}).get(method, (50.0, 2.0**30, 294_912))
            cost = replace(COST, train_seconds=seconds, peak_process_bytes=int(memory))
            ledger = replace(LEDGER, reported=parameters, trainable=parameters, optimised=parameters)
            scores = []
            for seed in seeds:
                noise = np.random.default_rng([seed, zlib.crc32(method.encode())]).normal(0, 0.02, N)
                predicted = np.where(hard + noise < share, 1 - LABELS, LABELS)
                if share == CONSTANT:
                    predicted = np.where(np.arange(N) % 100 == seed, 0, 1)
                scores.append(METRICS["accuracy"](LABELS, predicted))
                rows = rows_with(LABELS, predicted)
                where = {"task": task, "task_code": task, "method": method, "method_code": method, **spec}
                planter.run(scores[-1], "accuracy", seed=seed, rows=rows, cost=cost, ledger=ledger, **where)
            means[task, method] = float(np.mean(scores))
    return means
