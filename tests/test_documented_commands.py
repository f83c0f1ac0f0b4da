"""Every command that README and docs show can be typed: it composes, its options exist, its target is in the Makefile."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from grow_cli.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "methods").glob("*.md"))]
EXTRA = {"joblib": "hydra_plugins", "ray": "ray"}


def shown(page: Path) -> list[str]:
    """The lines of its shell blocks that begin with `grow` or `make`, continued ones joined, without comments."""
    blocks = re.findall(r"(?ms)^```(?:sh|bash)\n(.*?)^```", page.read_text(encoding="utf-8"))
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split(" #")[0].split()) for line in lines if line.startswith(("grow ", "make "))]


# A line with a shell's variable or redirection is not one command.
LINES = {
    line: page.relative_to(ROOT).as_posix()
    for page in reversed(PAGES)
    for line in shown(page)
    if not re.search(r"[$|<>;&]", line)
}
TRAIN = {line: page for line, page in LINES.items() if line.startswith("grow train")}


def single(arguments: list[str]) -> list[str]:
    """The first job of a sweep."""
    sweep = bool({"-m", "--multirun"} & set(arguments))
    kept = [a for a in arguments if a not in ("-m", "--multirun", "--cfg", "job")]
    return [re.sub(r"^([^=\[]+=)([^,\[]+),.*", r"\1\2", a) for a in kept] if sweep else kept


def test_pages_show_commands() -> None:
    assert len(TRAIN) >= 20
    assert len(LINES) - len(TRAIN) >= 10


@pytest.mark.parametrize("line", sorted(TRAIN))
def test_what_is_trained_composes(line: str, grow: Callable[..., Any]) -> None:
    arguments = single(shlex.split(line)[2:])
    for word in arguments:
        extra = EXTRA.get(word.removeprefix("sweep=")) if word.startswith("sweep=") else None
        if extra and find_spec(extra) is None:
            pytest.skip(f"{word} needs a package that is not installed")
    left = grow("train", "--cfg", "job", *arguments)
    assert left.code == 0, f"{TRAIN[line]}: {line}\n{left.err}"


@pytest.mark.parametrize("line", sorted(set(LINES) - set(TRAIN)))
def test_other_commands_and_their_options_exist(line: str) -> None:
    program, name, *arguments = shlex.split(line)
    if program == "make":
        assert re.search(rf"(?m)^{re.escape(name)}:", (ROOT / "Makefile").read_text()), f"{LINES[line]}: {line}"
        return
    assert name in COMMANDS, f"{LINES[line]}: {line}"
    parser = getattr(COMMANDS[name].load(), "parser", None)
    if parser is not None:
        parser().parse_known_args(arguments)
        options = {option for action in parser()._actions for option in action.option_strings}
        for option in (a.split("=")[0] for a in arguments if re.match(r"--?[a-z]", a)):
            assert option in options, f"{LINES[line]}: {line}"
