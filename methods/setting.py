"""The defaults of a method's hyper-parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.util.validation import validated

if TYPE_CHECKING:
    from parbench.methods.base import Setting
    from parbench.methods.expression import ResolvedMethod


def default_setting(choice: ResolvedMethod) -> Setting:
    """Return the defaults of a method under what its expression fixes.

    Raises:
        UserError: a value is wrong.
    """
    return validated(choice.method.setting_type, choice.values, f"the setting of {choice.method.name}")
