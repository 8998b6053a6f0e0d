"""A cache of prepared data, so that the runs of one process load and tokenise each task once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from parbench.bench.record.run_spec import canonical
from parbench.bench.train.prepare import PreparedData, prepare
from parbench.bench.train.resolved_run import ResolvedRun


@dataclass
class DataCache:
    """Prepared data by everything that it depends on."""

    _kept: dict[tuple[Any, ...], tuple[PreparedData, list[warnings.WarningMessage]]] = field(default_factory=dict)

    def of(self, run: ResolvedRun) -> PreparedData:
        """Return the data of a run, and repeat the warnings of preparing it.

        Raises:
            UserError: data or tokenizer are not available, or do not fit the task.
        """
        spec = run.spec
        key = (
            spec.task,
            spec.data_revision,
            spec.limit,
            spec.evaluation_limit,
            spec.base_model,
            spec.model_revision,
            run.training.max_length,
            canonical(spec.options),
            run.method.reads_system_prompt,
            run.method.virtual_tokens(run.setting),
        )
        if key not in self._kept:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                self._kept[key] = (prepare(run), caught)
        data, caught = self._kept[key]
        # A warning about the data is for the record of every run on it.
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return data
