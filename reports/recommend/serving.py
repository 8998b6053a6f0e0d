"""How a serving engine could serve the adapters of a short list, by what the engine loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from parbench.bench.deploy.lora_variant import lora_rank, lora_variant
from parbench.bench.models.base_model import BaseModel
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.selective import SelectiveMethod
from parbench.reports.deployment.engines import Engine, known_engines, obstacles, unknown
from parbench.reports.recommend.options import Option
from parbench.reports.words import grouped, listed
from parbench.tasks.base import Head

# Of the LoRA that an adapter would be converted to: what engines load by default.
CONVERTED_RANK = 16


@dataclass(frozen=True)
class AdapterForm:
    """What an engine looks at of an adapter that is not trained yet: an `engines.Adapter`."""

    kind: str
    rank: int | None
    variant: str
    targets: tuple[str, ...]
    whole_modules: tuple[str, ...]


def find_engine(name: str) -> Engine:
    """Return an engine by its name, whatever its case and its signs between letters.

    Raises:
        UserError: it is not known.
    """
    engines = {_letters(engine.name): engine for engine in known_engines().engines}
    if (found := engines.get(_letters(name))) is not None:
        return found
    known = [engine.name.lower() for engine in engines.values()]
    raise UserError(f'there is no serving engine called "{name}"{did_you_mean(name.lower(), known)}')


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def in_engine(engine: Engine, options: Sequence[Option], base_model: BaseModel, head: Head) -> Iterator[str]:
    """Yield how an engine could serve each option, in sentences.

    An adapter that it does not load can be merged into the base model where the method allows that, and served as an
    ordinary model; or converted to a LoRA, where the engine would load that.
    """
    model = base_model.skeleton(head)
    told = [(_served(engine, option, model), option.row) for option in options]
    for words, rows in grouped(told).items():
        yield f"{engine.name}, by sources seen {known_engines().seen}: {words}: {listed(rows)}."


def _served(engine: Engine, option: Option, model: Any) -> str:
    method: Any = find_method(option.method).method
    if isinstance(method, SelectiveMethod):
        return "as an ordinary model, which bench adapter export --merged writes; there is no adapter"
    form = _form(method, option, model)
    why = next(obstacles(engine, form), None)
    if why is None and not (unclear := unknown(engine, form)):
        return "serves as they are"
    why = why or f"whether it loads {listed(unclear)} is not known"
    if not method.mergeable:
        return f"cannot serve ({why})"
    if form.kind and next(obstacles(engine, form, CONVERTED_RANK), None) is None:
        return (
            f"as a LoRA that they are converted to, whose loss bench adapter measure shows, or merged into the base "
            f"model ({why})"
        )
    return f"merged into the base model only ({why})"


def _form(method: Any, option: Option, model: Any) -> AdapterForm:
    names = module_names(model)
    try:
        config = method.config(names, method.setting_type.model_validate(option.setting))
    except (NotImplementedError, TypeError, ValueError):  # it is made without peft, or not for this base model
        return AdapterForm("", None, "", (), ())
    targets = getattr(config, "target_modules", None)
    return AdapterForm(
        kind=str(getattr(config.peft_type, "value", config.peft_type)),
        rank=lora_rank(config),
        variant=lora_variant(config),
        targets=tuple(targets) if isinstance(targets, list | set | tuple) else (),
        whole_modules=tuple(names.head) if names.head else (),
    )
