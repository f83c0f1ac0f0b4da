"""The options of every config group: a name, its schema, and the way from the config to a part of the run.

An option is one file that holds a dataclass, decorated with `@option(group, name)`: its fields are the keys (`keys.key`
declares their values), its methods the behaviour. The modules that hold options import no torch at the top: `grow
list`, `--help`, completion and config errors must answer at once.

A user's package adds options by an entry point in the group `grow.plugins` that names a module; importing it
registers its options, and the folder `conf` beside it is searched for their YAML files.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from grow_cli.errors import UserError
from grow_cli.keys import check_ranges

if TYPE_CHECKING:
    from grow_cli.config import Config

# every module directly in these packages is imported, and may hold options
_PACKAGES = ("data.datasets", "models", "methods", "triggers", "optimizers", "schedules", "loggers")

_options: dict[str, dict[str, type]] = {}
_plugin_folders: list[Path] = []
_loaded = False


@dataclass
class Option:
    """Base of every option."""

    group_name: ClassVar[str] = ""
    option_name: ClassVar[str] = ""
    on_several_ranks: ClassVar[bool] = False
    """Whether several processes were shown to train with it as one does (docs/ranks.md); a method, model or optimizer is refused
    under torchrun otherwise."""

    name: str = ""
    """What the user typed after `group=`."""

    def __post_init__(self) -> None:
        self.name = self.name or self.option_name
        check_ranges(self, f"{self.group_name}.")

    def check_run(self, config: Config) -> list[str]:
        """UserError for an impossible combination with the run's other parts, before data is loaded; returns warnings."""
        return []


@dataclass
class Part(Option):
    """Base of the options that remember something while a run lasts: methods and triggers."""

    @dataclass
    class State:
        """Its state, plain data and tensors, which is in every checkpoint."""

    def begin(self) -> Self:
        """The part of one run: a copy, with a state of its own as `self.state`."""
        part = copy.copy(self)
        part.state = part.State()
        return part

    @property
    def state(self) -> Any:
        """Its `State`, once it has begun."""
        return self.__dict__["_state"]

    @state.setter
    def state(self, state: Any) -> None:
        self.__dict__["_state"] = state

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors that `load_state_dict` continues from."""
        return asdict(self.state)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.state = self.State(**saved)


T = TypeVar("T", bound=type)


def option(group: str, name: str) -> Callable[[T], T]:
    """Register a dataclass as `group=name`."""

    def register(cls: T) -> T:
        if not (is_dataclass(cls) and issubclass(cls, Option)):
            raise TypeError(f"{cls.__name__} must be a dataclass derived from Option to be {group}={name}")
        known = _options.setdefault(group, {}).get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(
                f"{group}={name} is registered by {known.__module__} and by {cls.__module__}: rename one of them"
            )
        cls.group_name, cls.option_name = group, name
        _options[group][name] = cls
        return cls

    return register


def load() -> None:
    """Import every option, the plugins' too; cheap (no torch), and done once."""
    global _loaded
    if _loaded:
        return
    for package in (f"grow_cli.{name}" for name in _PACKAGES):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            importlib.import_module(f"{package}.{module.name}")
    for plugin in entry_points(group="grow.plugins"):
        try:
            folder = Path(str(plugin.load().__file__)).parent / "conf"
        except UserError:
            raise
        except Exception as error:  # whatever a stranger's module runs into
            raise UserError(
                f"the plugin {plugin.name} ({plugin.value}) cannot be loaded ({type(error).__name__}: {error}): fix or "
                "uninstall it"
            ) from error
        if folder.is_dir() and folder not in _plugin_folders:
            _plugin_folders.append(folder)
    _loaded = True


def config_folders() -> list[Path]:
    """Where the YAML files are: ours first, then the plugins'."""
    load()
    package = Path(__file__).resolve().parent
    own = next(p for p in (package / "conf", package.parent / "conf") if p.is_dir())
    return [own, *_plugin_folders]


def groups() -> dict[str, dict[str, type]]:
    """Group → name → its dataclass."""
    load()
    return _options
