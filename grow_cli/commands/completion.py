"""`grow completion SHELL` prints the shell's hook; `grow completion --query LINE POINT` answers it.

Groups, their options and keys are completed by Hydra's own completion, which knows the composed config; commands and
run folders are ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grow_cli import registry
from grow_cli.errors import UserError

_BASH = """\
_grow() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do [ -n "$line" ] && COMPREPLY+=("$line"); done \\
        < <(grow completion --query "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null)
    case "${COMPREPLY[0]}" in *=|*.|*/) compopt -o nospace;; esac
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
COMP_WORDBREAKS=${COMP_WORDBREAKS//@}
complete -F _grow grow
"""
_ZSH = """\
_grow() {
    local -a found
    found=("${(@f)$(grow completion --query "${BUFFER[1,CURSOR]}" 2>/dev/null)}")
    compadd -S '' -- $found
}
compdef _grow grow
"""
_FISH = "complete -c grow -f -a '(grow completion --query (commandline -cp) 2>/dev/null)'\n"
_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_VALUED = (("plot", "--picture"), ("plot", "--against"), ("controls", "--only"), ("export", "--format"))
_OPTIONS = {
    "compare": ("--against", "--output", "--split", "--to"),
    "controls": ("--jobs", "--only"),
    "eval": ("--best", "--json"),
    "explain": ("--output",),
    "export": ("--best", "--format", "--output"),
    "plot": ("--against", "--output", "--picture"),
    "report": ("--output",),
    "train": ("--cfg", "--multirun"),
}
_COMMANDS = (
    *("compare", "completion", "controls", "eval", "explain", "export", "list", "plot", "report", "resume", "train"),
)


def main(arguments: list[str]) -> int:
    """Print a hook, or the candidates for a command line up to the cursor."""
    if arguments[:1] == ["--query"] and len(arguments) == 2:
        for candidate in candidates(arguments[1]):
            print(candidate)
        return 0
    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        raise UserError(f"completion needs a shell: grow completion {'|'.join(_SHELLS)}")
    print(_SHELLS[arguments[0]], end="")
    return 0


def candidates(line: str) -> list[str]:
    """The words that can stand at the end of `line`, as the user would have typed them."""
    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return []
    last = "" if line.endswith(" ") or not words else words[-1]
    given = words[1:] if not last else words[1:-1]
    if not given:
        return [c for c in _COMMANDS if c.startswith(last)]
    command = given[0]
    if command == "completion":
        return [s for s in _SHELLS if s.startswith(last)]
    if command == "list":
        from grow_cli.commands.listing import GROUPS

        return [g for g in GROUPS if g.startswith(last)]
    if (command, given[-1]) in _VALUED:
        return [value for value in _values(given[-1]) if value.startswith(last)]
    if last.startswith("-"):
        return [word for word in _OPTIONS.get(command, ()) if word.startswith(last)]
    if command in ("compare", "controls", "eval", "explain", "export", "plot", "report", "resume"):
        return _folders(last)
    return _overrides(given[1:], last) if command == "train" else []


def _values(option: str) -> Iterable[str]:
    """What can follow an option."""
    from grow_cli.analysis.export import FORMATS
    from grow_cli.analysis.pictures import AGAINST, PICTURES
    from grow_cli.controls import KINDS

    return {"--picture": PICTURES, "--against": AGAINST, "--only": KINDS, "--format": FORMATS}[option]


def _overrides(given: list[str], last: str) -> list[str]:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.plugins.completion_plugin import CompletionPlugin

    from grow_cli.commands.train import prepare_hydra

    class Words(CompletionPlugin):
        """Hydra's completion without a shell."""

        @staticmethod
        def provides() -> str:
            return ""

        def install(self) -> None: ...

        def uninstall(self) -> None: ...

        def query(self, config_name: str | None) -> None: ...

        @staticmethod
        def help(command: str) -> str:
            return ""

    prepare_hydra()
    loader: Any = ConfigLoaderImpl(config_search_path=create_config_search_path(str(registry.config_folders()[0])))
    found = Words(loader)._query("train", " ".join([*given, last]) if last else " ".join(given) + " ")
    hidden = ("schema", "--") if last.startswith("hydra") else ("schema", "--", "hydra")
    return sorted(word for word in found if not word.startswith(hidden))


def _folders(last: str) -> list[str]:
    parent = Path(last) if last.endswith("/") else Path(last).parent
    try:
        entries = sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []
    return [f"{p}/" for p in entries if str(p).startswith(last.removeprefix("./"))]
