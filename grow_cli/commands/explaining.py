"""`grow list method=tiny`, `grow list stop`, `grow list optimizer.lr`: keys with their values, ranges and meanings.

Meanings and ranges come from the field that declares the key; values are those that `group=option` composes to.
"""

from __future__ import annotations

from dataclasses import MISSING
from inspect import cleandoc
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.padding import Padding
from rich.text import Text

from grow_cli import console, registry
from grow_cli.analysis.notable import typed
from grow_cli.commands.choices import GROUPS, describe
from grow_cli.commands.composition import CONVOLUTIONAL, composed
from grow_cli.commands.hydra_errors import explained
from grow_cli.commands.places import addresses, near, option_in, places
from grow_cli.config import GROUP_KEYS, Config
from grow_cli.errors import UserError
from grow_cli.records.configs import as_plain
from grow_cli.records.flat import flatten
from grow_cli.schema import Declared, declared_by, sections

EVERY_RUN = "keys"
"""What `grow list` calls the keys that are in no config group."""


def explain(asked: str) -> None:
    """Print what `group=option`, a section (`stop`), a key, or `keys` is; UserError for anything else."""
    group, equals, option = asked.partition("=")
    parent, _, leaf = asked.rpartition(".")
    if equals and group in GROUPS:
        _option(group, option)
    elif asked == EVERY_RUN:
        _every_run()
    elif asked in sections():
        _section(asked)
    elif parent in sections() and leaf in declared_by(sections()[parent]):
        _key(f"{parent}.", declared_by(sections()[parent])[leaf])
    elif asked in declared_by(Config):
        _key("", declared_by(Config)[asked])
    elif any(leaf in declared_by(cls) for cls in registry.groups().get(parent, {}).values()):
        _key_of_a_group(parent, leaf)
    else:
        raise UserError(_neither(asked))


def _neither(asked: str) -> str:
    leaf = asked.rpartition(".")[2]
    if "=" in asked:
        return f"`{asked}`: the name before = is not a config group: choose from {', '.join(GROUPS)}"
    found = list(dict.fromkeys(place.address for place in places(leaf)))
    known = [*GROUPS, *sections(), *declared_by(Config)]
    likely = found or [name for name in near(asked, known) if name not in found]
    hint = f" (did you mean `grow list {'` or `grow list '.join(likely)}`?)" if likely else ""
    return (
        f"`{asked}` is neither a config group nor a key{hint}: choose from {', '.join(GROUPS)}; `grow list {EVERY_RUN}` "
        "shows the keys outside groups"
    )


def _option(group: str, name: str) -> None:
    with explained([f"{group}={name}"]):
        raw = composed([f"{group}={name}"], with_hydra=True)
        also = brought(group, raw)
    _print(Text(f"{group}={name}", style="bold"), Text(f": {describe(group)[name]}"))
    if group in GROUP_KEYS:
        cls = option_in(raw, group)
        doc = cleandoc(cls.__doc__ or "")
        if doc and not doc.startswith(f"{cls.__name__}("):  # the signature that a dataclass gives itself
            _meaning(" ".join(doc.split()), indent=2)
        values = as_plain(raw[group])
        for declared in declared_by(cls).values():
            _key(f"{group}.", declared, values[declared.name])
        if not declared_by(cls):
            _meaning("It has no keys of its own.", indent=2)
    if also:
        console.out.print()
        _print(Text("It also sets, unless you set them yourself:"))
        for word in also:
            _print(Text(f"  {word}"))


def brought(group: str, raw: DictConfig) -> list[str]:
    """What an option sets beside its own keys, as it is typed: `model=mlp_tiny`, `stop.epochs=36`."""
    ours, plain = _choices(raw), _choices(composed([], with_hydra=True))
    others = {of: option for of, option in ours.items() if of != group}
    before, after = (flatten(_values(config)) for config in (composed([f"{k}={v}" for k, v in others.items()]), raw))
    if group == "method":  # what is composed without it holds what the default method sets
        before |= flatten(as_plain(OmegaConf.structured(Config)))
    changed = {key: value for key, value in after.items() if before.get(key, MISSING) != value}
    chosen = {of: option for of, option in others.items() if option != plain[of]}
    if group == "method" and (net := CONVOLUTIONAL.get(chosen.get("model", ""))):
        chosen["model"] += f" ({net} on photographs)"
    return [f"{of}={option}" for of, option in chosen.items()] + [
        f"{key}={written(value)}" for key, value in changed.items() if not key.startswith(f"{group}.")
    ]


def _choices(raw: DictConfig) -> dict[str, str]:
    """Group → its option, as Hydra chose them, which tells a preset from the option behind it."""
    return {of: raw.hydra.runtime.choices[of] for of in GROUP_KEYS}


def _values(raw: DictConfig) -> dict[str, Any]:
    """All but Hydra's own."""
    values = {name: raw[name] for name in raw if name != "hydra"}
    return {str(k): OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in values.items()}


def _section(name: str) -> None:
    cls = sections()[name]
    _print(Text(name, style="bold"), Text(f": {' '.join((cls.__doc__ or '').split())}"))
    for declared in declared_by(cls).values():
        _key(f"{name}.", declared)


def _every_run() -> None:
    for declared in declared_by(Config).values():
        if declared.name not in sections() and declared.name not in GROUP_KEYS:
            _key("", declared)
    console.out.print()
    for name, cls in sections().items():
        _print(Text(f"grow list {name}", style="bold"), Text(f": {' '.join((cls.__doc__ or '').split())}"))


def _key_of_a_group(group: str, name: str) -> None:
    """Options with the same declaration are explained together; a default that only some have is listed with them."""
    alike: dict[tuple[str, str], dict[str, Any]] = {}
    for option, cls in sorted(registry.groups()[group].items()):
        declared = declared_by(cls).get(name)
        if declared is not None:
            alike.setdefault((declared.takes, declared.meaning), {})[option] = declared
    for found in alike.values():
        _key(f"{group}.", next(iter(found.values())), MISSING)
        values: dict[str, list[str]] = {}
        for option, declared in found.items():
            values.setdefault(written(declared.default), []).append(f"{group}={option}")
        _meaning("Default: " + "; ".join(f"{value} with {', '.join(options)}" for value, options in values.items()))
    if set(describe(group)) - set(registry.groups()[group]):
        _meaning(f"Presets may change it: grow list {group}=OPTION", indent=0)


_DECLARED = object()


def _key(prefix: str, declared: Declared, value: Any = _DECLARED) -> None:
    """A key as it is typed, what it means, and what it takes."""
    value = declared.default if value is _DECLARED else value
    told = f"{prefix}{declared.name}" + ("" if value is MISSING else f"={written(value)}")
    _print(Text(f"{told}" + (" (must be given)" if value == "???" else ""), style="cyan"))
    if declared.meaning:
        _meaning(declared.meaning)
    _meaning(f"Takes {declared.takes}.")


def _meaning(text: str, indent: int = 4) -> None:
    console.out.print(Padding(Text(text), (0, 0, 0, indent)))


def _print(*parts: Text) -> None:
    """On one line, which the terminal may fold and nothing cuts."""
    console.out.print(Text.assemble(*parts), soft_wrap=True)


def written(value: Any) -> str:
    """A value as it is typed, or as near to that as one can read."""
    if isinstance(value, dict):
        return "{" + ",".join(value) + "}"
    return "..." if value is MISSING else typed(value)


def names() -> set[str]:
    """Arguments of `grow list` other than groups and options, for completion."""
    return {EVERY_RUN, *declared_by(Config), *addresses()}
