"""Runs of methods whose size no budget changes: done once, and compared at every budget."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd

from parbench.bench.util.errors import UserError

# What a run and the budgeted runs that it stands beside have in common.
_PLACE = ["purpose", "small", "protocol", "base_model", "column", "limit", "evaluation_limit", "train_fraction"]
_BUDGET = ["budget", "budget/parameters"]


def at_every_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with a row for each budget at which those of methods of fixed size are compared.

    Such a run has no budget of its own. It stands at every budget that other runs of its task and base model have,
    under the same conditions; without a budget only where there are no such, or runs of other methods have none
    either. ``every_budget`` marks it.

    Args:
        runs: one row per run, with the columns of a frame up to ``column``.
    """
    fixed = _is_of_fixed_size(runs)
    places = pd.Series(list(runs[_PLACE].astype("object").fillna("").itertuples(index=False, name=None)), runs.index)
    budgeted = runs["budget"].notna()
    offered: dict[Hashable, dict[tuple[str, int], None]] = {}
    for place, budget in zip(
        places[budgeted], runs.loc[budgeted, _BUDGET].itertuples(index=False, name=None), strict=True
    ):
        offered.setdefault(place, {})[budget] = None
    without = set(places[~budgeted & ~fixed])
    moved = fixed & places.isin(list(offered))
    copies = [
        runs.loc[[index]].assign(budget=words, **{"budget/parameters": limit})
        for index, place in places[moved].items()
        for words, limit in offered[place]
    ]
    kept = runs[~moved | places.isin(list(without))]
    marked = pd.concat([kept, *(copy.astype(runs.dtypes) for copy in copies)]) if copies else runs
    return marked.assign(every_budget=fixed.reindex(marked.index)).reset_index(drop=True)


def once(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the frame's runs one row per run: a run that stands at every budget has none.

    Args:
        runs: the frame's.
    """
    distinct = runs.drop_duplicates("run_id", ignore_index=True)
    return distinct.assign(**{name: distinct[name].mask(distinct["every_budget"]) for name in _BUDGET})


def _is_of_fixed_size(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return which runs have no budget because it could not change their method's size."""
    if runs["budget"].isna().all():
        return pd.Series(False, index=runs.index, dtype="bool")
    without = runs["budget"].isna()
    fixed = {method for method in runs.loc[without, "method"].unique() if _has_fixed_size(str(method))}
    return without & runs["method"].isin(fixed)


def _has_fixed_size(method: str) -> bool:
    # Methods load torch, which only a report of budgets and of runs without one has to wait for.
    from parbench.methods import find_method

    try:
        return find_method(method).method.size_knob is None
    except UserError:  # a method of another machine
        return False
