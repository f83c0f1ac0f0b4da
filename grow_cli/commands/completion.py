"""`grow completion SHELL` prints the shell's hook, which calls `grow completion --query LINE POINT`.

Groups, their options and keys are completed by Hydra's own completion, which knows the composed config; commands and
run folders are ours.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from grow_cli import registry
from grow_cli.cli import COMMANDS, Command
from grow_cli.console import OneOf, Parser
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


def parser() -> Parser:
    """The command's arguments."""
    parser = Parser(
        prog="grow completion",
        description="Print a script with which the shell completes commands, groups, options, keys and run folders.",
        epilog='for bash and zsh: eval "$(grow completion bash)" in the shell\'s startup file; for fish: '
        "grow completion fish | source",
    )
    parser.add_argument("shell", choices=_SHELLS, help="your shell")
    return parser


def main(arguments: list[str]) -> int:
    """Print a hook, or the candidates for a command line up to the cursor."""
    if arguments[:1] == ["--query"] and len(arguments) == 2:
        for candidate in candidates(arguments[1]):
            print(candidate)
        return 0
    if {"-h", "--help"} & set(arguments):
        parser().print_help()
        return 0
    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        raise UserError(f"completion needs a shell: grow completion {'|'.join(_SHELLS)}")
    print(_SHELLS[arguments[0]], end="")
    return 0


def candidates(line: str) -> list[str]:
    """Completions of the last word of `line`, as the user would type them."""
    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return []
    last = "" if line.endswith(" ") or not words else words[-1]
    given = words[1:] if not last else words[1:-1]
    if not given:
        return sorted(name for name in COMMANDS if name.startswith(last))
    if given[0] == "completion":
        return [s for s in _SHELLS if s.startswith(last)]
    if given[0] == "list":
        from grow_cli.commands.choices import GROUPS, describe

        group, equals, _ = last.partition("=")
        if equals:
            listed = describe(group) if group in GROUPS else {}
            return [f"{group}={option}" for option in listed if f"{group}={option}".startswith(last)]
        from grow_cli.commands.explaining import names

        keys = [name for name in names() if "." not in name or "." in last]
        return sorted({name for name in (*GROUPS, *keys) if name.startswith(last)})
    if given[0] == "help":
        return sorted(name for name in COMMANDS if name.startswith(last))
    if given[0] == "train":
        options = [word for word in ("--cfg", "--multirun") if word.startswith(last)]
        return options if last.startswith("-") else _overrides(given[1:], last)
    return _arguments(COMMANDS[given[0]], given[-1], last) if given[0] in COMMANDS else []


def _arguments(command: Command, before: str, last: str) -> list[str]:
    """As the command's parser has them: an option's values, options, run folders."""
    actions = command.load().parser()._actions
    valued = next((a.type.choices for a in actions if before in a.option_strings and isinstance(a.type, OneOf)), None)
    if valued is not None:
        return [value for value in valued if value.startswith(last)]
    if last.startswith("-"):
        names = {name for action in actions for name in action.option_strings if name.startswith("--")} - {"--help"}
        return sorted(name for name in names if name.startswith(last))
    first = next((a for a in actions if not a.option_strings), None)
    if before == command.name and first is not None and first.choices:
        return [str(word) for word in first.choices if str(word).startswith(last)]
    return _folders(last)


def _overrides(given: list[str], last: str) -> list[str]:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra._internal.utils import create_config_search_path

    from grow_cli.commands.composition import prepare_hydra

    prepare_hydra()
    own, *plugins = map(str, registry.config_folders())
    search = create_config_search_path(own)
    for folder in plugins:
        search.append("plugin", f"file://{folder}")
    loader: Any = ConfigLoaderImpl(config_search_path=search)
    # any of Hydra's shells: what it offers for a line is the same
    found = BashCompletion(loader)._query("train", " ".join([*given, last]) if last else " ".join(given) + " ")
    hidden = ("schema", "--") if last.startswith("hydra") else ("schema", "--", "hydra")
    return sorted(word for word in found if not word.startswith(hidden))


def _folders(last: str) -> list[str]:
    parent = Path(last) if last.endswith("/") else Path(last).parent
    try:
        entries = sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []
    return [f"{p}/" for p in entries if str(p).startswith(last.removeprefix("./"))]
