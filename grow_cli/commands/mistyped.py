"""Mistyped KEY=VALUE words: spaces, dashes, colons, brackets that a shell took apart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from hydra._internal.utils import get_args_parser

from grow_cli.commands.choices import GROUPS, describe
from grow_cli.commands.places import addresses, lines
from grow_cli.commands.unknown_keys import chosen_by
from grow_cli.config import GROUP_KEYS
from grow_cli.errors import UserError
from grow_cli.schema import declared_by, sections

_OPEN, _CLOSE = "[{(", "]})"


def refuse_mistyped(arguments: list[str]) -> None:
    """UserError with the line to type for the first words that are no KEY=VALUE, but show which was meant."""
    for typed, why, meant in _mistakes(arguments):
        raise UserError(f"{' '.join(typed)}: {why}: type {' '.join(map(shlex.quote, meant))}")


def _mistakes(words: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """What was typed, what is wrong with it, and what was meant."""
    flags = _valued_flags()
    for at, word in enumerate(words):
        rest = words[at + 1 :]
        if at and words[at - 1] in flags:
            continue
        if word.startswith("-"):
            yield from _dashes(word, rest, words)
        elif not word.startswith(("+", "~")):
            yield from _brackets(word, rest)
            yield from _spaces(word, rest, words)
            yield from _colon(word)
            yield from _braces(word, rest)


def _valued_flags() -> set[str]:
    """Flags of Hydra's that another word follows."""
    actions = get_args_parser()._actions
    return {name for action in actions if action.nargs is None for name in action.option_strings}


def _own_flags() -> set[str]:
    return {name for action in get_args_parser()._actions for name in action.option_strings}


def _bare(word: str) -> bool:
    """Whether a word can only be part of another one."""
    return "=" not in word and not word.startswith(("+", "~", "--")) and not re.match(r"-[A-Za-z]", word)


def _whole(name: str, value: str, words: list[str]) -> list[str]:
    """`optimizer.lr=0.1` for `lr`, or a full key unchanged; empty for an unknown key."""
    name = name if name in _known() else name.replace("-", "_")
    if name in _known():
        return [f"{name}={value}"]
    found = lines(name, value, chosen_by(words))
    return shlex.split(found[0]) if found else []


def _known() -> frozenset[str]:
    return addresses() | set(GROUP_KEYS)


def _dashes(word: str, rest: list[str], words: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    name, equals, value = word.lstrip("-").partition("=")
    if not name or word.partition("=")[0] in _own_flags():
        return
    typed, value = (
        ([word], value) if equals else ([word, rest[0]], rest[0]) if rest and _bare(rest[0]) else ([word], "")
    )
    whole = _whole(name, value or ("true" if not equals else ""), words)
    if whole and (equals or value):
        yield typed, "keys have no dashes", whole
    elif whole:
        yield typed, "keys have no dashes, as KEY=VALUE", [f"{whole[-1].partition('=')[0]}=VALUE"]


def _brackets(word: str, rest: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """`model.hidden=[64,` `64]`, and the same with its comma forgotten."""
    if "=" not in word or _depth(word) <= 0:
        return
    joined = word
    for number, more in enumerate(rest):
        if not _bare(more):
            return
        joined += more if joined[-1] in "[{(,:" or more[:1] in "]}),:" else f",{more}"
        if _depth(joined) == 0:
            yield [word, *rest[: number + 1]], "a list is one word, quoted if it contains spaces", [joined]
            return


def _depth(text: str) -> int:
    return sum((c in _OPEN) - (c in _CLOSE) for c in text)


def _spaces(word: str, rest: list[str], words: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """`seed = 3`, `seed= 3`, `seed =3`, `seed 3`, `seed=0, 1`, and `seed==3`."""
    why = "there are no spaces around ="
    inside = re.fullmatch(r"([\w.@/-]+)\s*=\s*(.*)", word, re.DOTALL)
    following = rest[0] if rest else ""
    if inside and (" =" in word or "= " in word) and re.match(r"[\w.@/-]+\s+=|[\w.@/-]+=\s", word):
        yield [word], why, _whole(inside[1], inside[2], words) or [f"{inside[1]}={inside[2]}"]
    elif re.fullmatch(r"[\w.@/-]+==[^=]*", word):
        name, _, value = word.partition("==")
        yield [word], "one = is enough", _whole(name, value, words) or [f"{name}={value}"]
    elif word.endswith("=") and following and _bare(following):
        name = word.rstrip("=")
        yield [word, following], why, _whole(name, following, words) or [f"{name}={following}"]
    elif word.endswith(",") and "=" in word and following and _bare(following):
        yield [word, following], "several values are one word, without spaces", [word + following]
    elif re.fullmatch(r"[\w.@/-]+", word) and following.startswith("="):
        value, taken = following.lstrip("="), [word, following]
        if not value and len(rest) > 1 and _bare(rest[1]):
            value, taken = rest[1], [*taken, rest[1]]
        yield taken, why, _whole(word, value, words) or [f"{word}={value}"]
    elif (
        re.fullmatch(r"[\w.-]+", word) and following and _bare(following) and (meant := _whole(word, following, words))
    ):
        yield [word, following], "a key and its value are joined by =", meant
    elif re.fullmatch(r"\w+", word) and (groups := [group for group in GROUPS if word in describe(group)]):
        yield [word], "an option needs its group and =", [f"{groups[0]}={word}"]


def _colon(word: str) -> Iterator[tuple[list[str], str, list[str]]]:
    """`seed:3`."""
    name, colon, value = word.partition(":")
    if colon and value and "=" not in name and (meant := _whole(name, value, [])):
        yield [word], "a key and its value are joined by =", meant


def _braces(word: str, rest: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """`stop={epochs:3,steps:9}`, of which a shell makes `stop=epochs:3 stop=steps:9`."""
    section, equals, inner = word.partition("=")
    if not equals or section not in sections():
        return
    taken = [word, *(more for more in rest if more.startswith(f"{section}="))]
    pairs = [one.strip().split(":", 1) for w in taken for one in w.partition("=")[2].strip("{}").split(",")]
    if (
        all(len(pair) == 2 and pair[0].strip() in declared_by(sections()[section]) for pair in pairs)
        and "{" not in inner
    ):
        meant = [f"{section}.{name.strip()}={value.strip()}" for name, value in pairs]
        yield taken, "a shell took the braces away", meant
