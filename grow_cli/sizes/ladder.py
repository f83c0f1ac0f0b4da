"""A ladder of static nets, geometric in parameters, along the path on which a net grew. Pure except for counting parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from grow_cli.controls import NotPossible, nearest, on_meta

BEYOND = 2.0
"""The top of the ladder, as a multiple of the grown net's parameters."""

MOST = 32
"""Rungs: with halving, the first are dropped after a budget's thirty-second part."""


@dataclass(frozen=True)
class Rung:
    """One static net."""

    name: str
    """Its parameters, as text: the name of its folder."""
    sizes: dict[str, Any]
    """The sizes of its model, as the config has them."""
    parameters: int
    flops_per_sample: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ladder(architecture: dict[str, Any], initial: dict[str, Any], count: int) -> list[Rung]:
    """At most `count` nets from the initial one to `BEYOND` times the grown one's parameters, ascending, each another.

    Fewer where the way has fewer nets (a stack that grew from one block to three). NotPossible where there are none.

    :param architecture: of the grown net, as `architecture()` gives it
    :param initial: the model section of its run's config
    """
    from grow_cli.surgery.measure import count_parameters

    grown, net = on_meta(architecture), on_meta(architecture | {"model": architecture["model"] | initial})
    last = grown.sizes()
    first = {key: net.size(key) for key in last}

    known: dict[str, int] = {}

    def parameters(t: float) -> int:
        sizes = between(first, last, t)
        if str(sizes) not in known:
            known[str(sizes)] = count_parameters(on_meta(architecture | {"model": architecture["model"] | sizes}))
        return known[str(sizes)]

    if parameters(1.0) < parameters(0.0):
        raise NotPossible("its net became smaller, and a ladder goes from the initial net upwards")
    begin, target = parameters(0.0), BEYOND * parameters(1.0)
    if begin >= target:
        raise NotPossible("its initial net already has twice the parameters of the grown net, so there is no ladder")
    high = 1.0
    while parameters(high) < target:
        high *= 2
        if high > 64:
            raise NotPossible("growing further in the same direction never reaches twice its parameters")
    wanted = [begin * (target / begin) ** (k / (count - 1)) for k in range(count)]
    places = [0.0, *(nearest(parameters, high, w) for w in wanted[1:])]
    found = {parameters(t): between(first, last, t) for t in places}
    return [_rung(architecture, found[n]) for n in sorted(found)]


def _rung(architecture: dict[str, Any], sizes: dict[str, Any]) -> Rung:
    from grow_cli.surgery.flops import flops_per_sample
    from grow_cli.surgery.measure import count_parameters

    net = on_meta(architecture | {"model": architecture["model"] | sizes})
    parameters = count_parameters(net)
    return Rung(str(parameters), sizes, parameters, flops_per_sample(net, net.input_shape))


def between(first: Any, last: Any, t: float) -> Any:
    """Sizes on the straight way from `first` (t = 0) to `last` (t = 1), and beyond it; depth and widths move together.

    Nested lists of numbers, of any two lengths; no number falls below 1, and no list that had an entry becomes empty.
    """
    if isinstance(last, dict):
        return {key: between(first[key], last[key], t) for key in last}
    if not isinstance(last, list):
        return max(1, round(first + t * (last - first)))
    length = max(min(1, len(first)), round(len(first) + t * (len(last) - len(first))))
    if not last:
        return [] if not length else [*first[:length]]
    return [between(_at(first, i, length, last), _at(last, i, length, last), t) for i in range(length)]


def _at(stack: list[Any], index: int, length: int, like: list[Any]) -> Any:
    """The entry of a stack at the place that `index` has in one of `length`; of an empty stack a net without units."""
    if not stack:
        return _nothing(like[min(index, len(like) - 1)])
    if length == len(stack):
        return stack[index]
    place = (index + 0.5) / length * len(stack) - 0.5
    low = min(max(int(place), 0), len(stack) - 1)
    high = min(low + 1, len(stack) - 1)
    share = min(max(place - low, 0.0), 1.0)
    if isinstance(stack[low], list):
        return stack[low] if share < 0.5 else stack[high]
    return stack[low] + share * (stack[high] - stack[low])


def _nothing(entry: Any) -> Any:
    return [_nothing(e) for e in entry] if isinstance(entry, list) else 0
