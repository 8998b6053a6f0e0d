"""How a serving engine could serve the adapters of a short list, by what the engine loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from parbench.bench.models.base_model import BaseModel
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.reports.deployment.engines import Engine, known_engines, obstacles
from parbench.reports.recommend.options import Option
from parbench.reports.words import grouped, listed
from parbench.tasks.base import Head


@dataclass(frozen=True)
class AdapterForm:
    """What an engine looks at, of an adapter that is not trained yet; see `parbench.bench.deploy.result.Deployment`."""

    kind: str
    rank: int | None
    variant: str
    targets: tuple[str, ...]
    whole_modules: tuple[str, ...]


def find_engine(name: str) -> Engine:
    """Return an engine by its name, in whatever case.

    Raises:
        UserError: it is not known.
    """
    engines = {engine.name.lower(): engine for engine in known_engines().engines}
    if name.lower() not in engines:
        raise UserError(f'there is no serving engine called "{name}"{did_you_mean(name.lower(), engines)}')
    return engines[name.lower()]


def in_engine(engine: Engine, options: Sequence[Option], base_model: BaseModel, head: Head) -> Iterator[str]:
    """Yield how an engine could serve each option, in sentences.

    An adapter that it does not load can be merged into the base model where the method allows that, and served as an
    ordinary model.
    """
    model = base_model.skeleton(head)
    told = [(_served(engine, option, model), option.row) for option in options]
    for words, rows in grouped(told).items():
        yield f"{engine.name}, by sources seen {known_engines().seen}: {words}: {listed(rows)}."


def _served(engine: Engine, option: Option, model: Any) -> str:
    method: Any = find_method(option.method).method
    why = next(obstacles(engine, _form(method, option, model)), None)
    if why is None:
        return "serves as they are"
    return f"merged into the base model only ({why})" if method.mergeable else f"cannot serve ({why})"


def _form(method: Any, option: Option, model: Any) -> AdapterForm:
    names = module_names(model)
    try:
        config = method.config(names, method.setting_type.model_validate(option.setting))
    except (NotImplementedError, TypeError, ValueError):  # weights of the base model are trained, without peft
        return AdapterForm("", None, "", (), ())
    targets = getattr(config, "target_modules", None)
    return AdapterForm(
        kind=str(getattr(config.peft_type, "value", config.peft_type)),
        rank=getattr(config, "r", None),
        variant="dora" if getattr(config, "use_dora", False) else "",
        targets=tuple(targets) if isinstance(targets, list | set | tuple) else (),
        whole_modules=tuple(names.head) if names.head else (),
    )
