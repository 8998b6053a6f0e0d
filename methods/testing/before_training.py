"""Checks of the untrained adapted model: initial outputs, trained parameters and their count.

Each check raises its finding as one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice, pairwise

import torch

from parbench.methods.testing.findings import (
    EQUAL,
    FaultError,
    NotApplicableError,
    difference,
    raise_unless_finite,
    several,
)
from parbench.methods.testing.subject import REFUSALS, Subject, first_line, size_candidates, with_size

# With several factors that start at zero, some gradients are zero in the first steps.
GRADIENT_STEPS = 3
SIZES = 3


def check_adapt(subject: Subject) -> None:
    """The method can be applied, and the outputs have the shape of the base model's."""
    error = subject.obstacle
    if isinstance(error, REFUSALS):
        raise NotApplicableError(f"the method refuses {subject.tiny.kind} ({first_line(error)})")
    if error is not None:
        raise FaultError(
            f"adapting raises {type(error).__name__} ({first_line(error)}); refuse a model that cannot "
            "be adapted by a ValueError with the reason"
        ) from error
    found, expected = subject.outputs(subject.fresh.model), subject.base_outputs
    if found.shape != expected.shape:
        raise FaultError(f"the adapted model's logits have the shape {tuple(found.shape)}, not {tuple(expected.shape)}")


def check_start(subject: Subject) -> None:
    """The untrained adapted model has the base model's outputs, or not, as declared."""
    change = starting_change(subject)
    if subject.method.starts_at_base and not change <= EQUAL:
        raise FaultError(
            f"the untrained adapter changes the outputs by {change:.2g} (allowed {EQUAL:.0e} relative): make it start "
            "at zero, or declare starts_at_base = False"
        )
    if not subject.method.starts_at_base and change <= EQUAL:
        raise FaultError(
            f"starts_at_base = False is declared, but the untrained adapter changes the outputs by {change:.2g} only; "
            "declare starts_at_base = True"
        )


def starting_change(subject: Subject) -> float:
    """Return the change of the outputs by the untrained adapter, relative to the largest output."""
    return difference(subject.outputs(subject.fresh.model), subject.base_outputs)


def check_groups(subject: Subject) -> None:
    """Every trainable parameter is in exactly one group, frozen ones in none, and the head in a group of its own."""
    adapted = subject.fresh
    names = {id(p): name for name, p in adapted.model.named_parameters()}
    held = [(group, p) for group in adapted.groups for p in group.parameters]
    times: dict[int, int] = {}
    for group, p in held:
        if id(p) not in names:
            raise FaultError(f'the group "{group.name}" holds a tensor that is not a parameter of the model')
        times[id(p)] = times.get(id(p), 0) + 1
    trainable = {id(p) for p in adapted.model.parameters() if p.requires_grad}
    twice = [names[key] for key, count in times.items() if count > 1]
    missing = [name for key, name in names.items() if key in trainable and key not in times]
    frozen = [names[key] for key in times if key not in trainable]
    if adapted.names.head and not any(group.is_head and group.parameters for group in adapted.groups):
        raise FaultError(
            f'the task head ({", ".join(adapted.names.head)}) is in no group "head": it would stay untrained'
        )
    in_head = {id(p): adapted.names.in_head(names[id(p)]) for _, p in held}
    misplaced = [names[id(p)] for group, p in held if in_head[id(p)] != group.is_head]
    for found, fault in (
        (twice, "in two parameter groups"),
        (missing, "trainable, but in no parameter group"),
        (frozen, "in a parameter group, but frozen"),
        (misplaced, 'either of the task head and outside the group "head", or inside it and not of the head'),
    ):
        if found:
            raise FaultError(f"{several(found, 'parameter')} {fault}")


def check_count(subject: Subject) -> None:
    """The reported size is the sum of some of the groups, or that of the stored adapter."""
    adapted = subject.fresh
    reported = subject.method.reported_parameters(adapted.model, adapted.names)
    groups = [group for group in adapted.groups if not group.is_head]
    sizes = [group.numbers for group in groups]
    total = sum(sizes)
    if total and reported < 1:
        raise FaultError(f"reported_parameters is {reported}, but {total} numbers are optimised besides the task head")
    if reported > total:
        raise FaultError(
            f"reported_parameters is {reported}, but only {total} numbers are optimised besides the task head"
        )
    sums = {sum(chosen) for several in range(len(sizes) + 1) for chosen in combinations(sizes, several)}
    if reported in sums:
        return
    # A method may also report its size after pruning.
    trained = subject.trained
    stored = sum(t.numel() for t in subject.method.adapter_state(trained.model, trained.names).values())
    if reported < stored:
        parts = ", ".join(f"{group.name} {group.numbers}" for group in groups)
        raise FaultError(
            f"reported_parameters is {reported}, but {stored} numbers are stored, and it is not a sum of parameter "
            f"groups either ({parts}): put what the paper does not count into a group of its own"
        )


def check_size(subject: Subject) -> None:
    """The reported size grows with the size knob."""
    knob = subject.method.size_knob
    if knob is None:
        raise NotApplicableError("the method has no size knob")
    found = list(islice(_sizes(subject), SIZES))
    if len(found) < 2:
        raise NotApplicableError(f"the tiny model takes only one value of {knob.field}")
    for (low, fewer), (high, more) in pairwise(found):
        if more < fewer:
            raise FaultError(
                f"reported_parameters falls from {fewer} to {more} as {knob.field} goes from {low} to {high}"
            )
    if found[0][1] == found[-1][1]:
        raise FaultError(
            f"reported_parameters stays {found[0][1]} as {knob.field} goes from {found[0][0]} to {found[-1][0]}: it is "
            "not a size knob"
        )


def check_gradients(subject: Subject) -> None:
    """All optimised parameters get a gradient and move in the first steps, and the outputs stay finite."""
    adapted = subject.adapt()
    if not adapted.optimised:
        raise FaultError("nothing is trained on this model")
    reached: set[int] = set()
    optimiser = adapted.optimiser()
    for batch in subject.batches(GRADIENT_STEPS):
        subject.step(adapted, batch, optimiser)
        reached |= {key for key, p in adapted.optimised.items() if p.grad is not None and bool(p.grad.any())}
    still = [
        name for name, p in adapted.model.named_parameters() if id(p) in reached and torch.equal(p, adapted.start[name])
    ]
    if still:
        raise FaultError(f"{several(still, 'parameter')} not moved by {GRADIENT_STEPS} steps, although with a gradient")
    dead = [name for name, p in adapted.model.named_parameters() if id(p) in adapted.optimised.keys() - reached]
    if dead:
        raise FaultError(f"{several(dead, 'parameter')} without a gradient in the first {GRADIENT_STEPS} steps")
    raise_unless_finite(subject.outputs(adapted.model), f"after {GRADIENT_STEPS} steps")


def check_skeleton(subject: Subject) -> None:
    """The counts are the same on the meta device, on which budgets are matched without weights."""
    fresh, count = subject.fresh, subject.method.reported_parameters
    try:
        skeleton = subject.adapt(device="meta")
    except (*REFUSALS, RuntimeError) as error:
        raise NotApplicableError(f"the method needs weights to be applied ({first_line(error)})") from error
    for what, found, expected in (
        ("reported_parameters", count(skeleton.model, skeleton.names), count(fresh.model, fresh.names)),
        ("the number of optimised parameters", skeleton.adapter_numbers, fresh.adapter_numbers),
    ):
        if found != expected:
            raise FaultError(f"{what} is {found} on the meta device, but {expected} on a device with weights")


def check_bfloat16(subject: Subject) -> None:
    """On a base model in bfloat16, one step gives finite outputs."""
    try:
        adapted = subject.adapt(dtype=torch.bfloat16)
    except REFUSALS as error:
        raise NotApplicableError(f"the method refuses a base model in bfloat16 ({first_line(error)})") from error
    for batch in subject.batches(1):
        subject.step(adapted, batch, adapted.optimiser())
    raise_unless_finite(subject.outputs(adapted.model), "after one step on a base model in bfloat16")


def _sizes(subject: Subject) -> Iterator[tuple[int, int]]:
    """Yield the size knob's values that the model takes, with the reported number of parameters."""
    for value in size_candidates(subject.method):
        try:
            adapted = subject.adapt(with_size(subject.method, subject.setting, value))
        except REFUSALS:
            # As when a budget is matched: refused sizes are skipped.
            continue
        yield value, subject.method.reported_parameters(adapted.model, adapted.names)
