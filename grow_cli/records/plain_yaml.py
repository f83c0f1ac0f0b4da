"""YAML as plain data: no tags, no aliases, no interpolation; numbers and words as Hydra reads and writes them."""

from __future__ import annotations

import re
from typing import Any

import yaml

_DEEPEST = 50
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
    |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


# as OmegaConf: 1e3 is a number, and a date is a word, which is written with quotes
for _kind, _others in ((_Loader, (":float", ":timestamp")), (_Dumper, (":float",))):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in of if not tag.endswith(_others)]
        for first, of in _kind.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def load(text: str) -> Any:
    """Nested dicts (their keys text), lists, text, numbers, truth values and None; ValueError, in words, for anything else."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"line {event.start_mark.line + 1}: it has a YAML alias, which grow never writes")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"line {event.start_mark.line + 1}: it is nested too deeply")
        return _data(yaml.load(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{place}{error.problem or 'it is not YAML'}") from error
    except (yaml.YAMLError, RecursionError, TypeError, OverflowError) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else "it is no YAML") from error


def _data(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _data(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_data(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"it holds a {type(value).__name__}, which is not plain data")


def dump(data: Any) -> str:
    """What `load` reads as the same data."""
    return str(yaml.dump(data, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))
