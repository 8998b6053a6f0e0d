"""Machines in words."""

from __future__ import annotations

import pandas as pd
import pytest

from parbench.reports.hardware import hardware_in_words

CPU = {"device": "cpu", "cpu": "AMD EPYC", "cores": "2", "memory": "24 GiB", "threads": "1", "workers": "2"}
GPU = {"device": "cuda:0", "cpu": "Xeon", "cores": "16", "memory": "128 GiB", "cuda": "12.8", "threads": "4"}
GPU |= {"accelerator": "NVIDIA H200 (139 GiB)"}


def words(*machines: dict[str, str]) -> str:
    return hardware_in_words(
        pd.DataFrame([{f"hardware/{name}": value for name, value in one.items()} for one in machines])
    )


@pytest.mark.parametrize(
    ("machines", "text"),
    [
        ([CPU], "2 cores of AMD EPYC, CPU only, 24 GiB of memory"),
        ([CPU, CPU | {"threads": "2"}], "2 cores of AMD EPYC, CPU only, 24 GiB of memory"),
        ([CPU | {"memory": "126 GiB"}, CPU], "2 cores of AMD EPYC, CPU only, 24 GiB of memory or more"),
        ([GPU], "NVIDIA H200 (139 GiB), 16 cores of Xeon, 128 GiB of memory"),
        (
            [GPU, CPU],
            "2 cores of AMD EPYC, CPU only, 24 GiB of memory; "
            "NVIDIA H200 (139 GiB), 16 cores of Xeon, 128 GiB of memory",
        ),
        ([{"cores": "1", "cpu": "an abacus"}], "1 core of an abacus"),
        ([{"cluster": "ray", "device": "cuda"}], "device cuda, cluster ray"),
        ([{"processor": "abacus"}], "processor abacus"),
        ([{}], ""),
    ],
)
def test_a_machine_is_described_in_words(machines: list[dict[str, str]], text: str) -> None:
    assert words(*machines) == text


def test_many_machines_are_counted() -> None:
    many = [CPU | {"cpu": f"processor {number}"} for number in range(9)]
    assert words(*many).endswith("2 cores of processor 3, CPU only, 24 GiB of memory; 5 more machines")
