"""Plans of small runs of LoRA-Gen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.tasks.data.lock import RevisionLock
from tests.support.commonsense_rows import write_sets
from tests.support.lora_gen_options import sets
from tests.support.tiny_llama import tiny_llama, tiny_model_folder


@pytest.fixture(scope="module")
def sets_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with little of all eight sets."""
    return write_sets(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny-llama", tiny_llama())


@pytest.fixture(scope="module")
def plan_lora_gen(
    tmp_path_factory: pytest.TempPathFactory, sets_root: Path, llama_folder: Path
) -> Callable[..., PlannedRun]:
    lock = tmp_path_factory.mktemp("lock") / "revisions.json"

    def make(
        method: str = "lora_gen", task: str = "commonsense", budget: str | None = None, **changes: Any
    ) -> PlannedRun:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        # A budget sizes it, at the scale of its defaults.
        size = () if budget is None else ("lora_gen.r=", "lora_gen.alpha=")
        overrides = Overrides(
            methods=(method, "lora_gen"),
            tasks=(task,),
            base_model=str(llama_folder),
            seeds=(1,),
            sets=tuple(text for text in sets(changes, task) if not text.startswith(size)),
            data_root=sets_root,
            budgets=budget,
        )
        return make_plan(load_suite("mini"), overrides, RevisionLock(lock)).runs[0]

    return make
