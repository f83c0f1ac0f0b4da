"""`grow <command>`: dispatch, nothing else. No torch here, so that help, lists and config errors answer at once."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from grow_cli.errors import Interrupted, TrainingFailed, UserError


@dataclass(frozen=True)
class Command:
    """A word after `grow`."""

    name: str
    uses: dict[str, str]
    """What follows it → what that does, for the usage."""
    module: str = ""
    """Of grow_cli.commands, imported when it is called: `main(arguments)`, and `parser()` where it has options."""

    def load(self) -> ModuleType:
        return import_module(f"grow_cli.commands.{self.module or self.name}")


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "train",
            {
                "[KEY=VALUE ...]": "train one run: method=alether dataset=mnist",
                "-m [KEY=V1,V2 ...]": "train a sweep: method=alether,copy seed=0,1,2",
                "--cfg job [...]": "show the composed config, train nothing",
            },
        ),
        Command("resume", {"RUN": "continue an interrupted run"}),
        Command("runs", {"[FOLDER]": "a table of runs; --sort val, --filter method=tiny"}),
        Command("show", {"RUN": "one run: its keys, scores, growth and end"}),
        Command("diff", {"RUN RUN...": "the keys and results in which runs differ"}),
        Command("watch", {"RUN": "follow a run that another terminal trains"}),
        Command(
            "sweep",
            {
                "status SWEEP": "the state of its jobs, and its expected end",
                "retry SWEEP": "continue its unfinished jobs",
            },
            "sweeping",
        ),
        Command("eval", {"RUN": "measure a finished run's net again"}),
        Command("predict", {"RUN FILE|DIR|-": "predict images, rows of a table, arrays"}),
        Command(
            "controls",
            {"RUN...": "train the controls of grown runs: equal steps,\nFLOPs, seconds, parameters; random growth"},
        ),
        Command("compare", {"RUN... | SWEEP": "which way wins, by how much, with p-values"}),
        Command(
            "size",
            {"[KEY=VALUE ...]": "how large a net should be: grown sizes,\ncompared with a ladder of static ones"},
        ),
        Command(
            "tune",
            {"[method=A,B ...]": "search hyperparameters for each method, by\nvalidation, with equally many trials"},
        ),
        Command("report", {"RUN | SWEEP": "everything as one HTML page"}),
        Command("plot", {"RUN...": "accuracy, loss and size against steps, FLOPs,\n...; --picture draws others"}),
        Command("explain", {"RUN": "why each neuron was grown (method=fold)"}),
        Command("export", {"RUN": "write the net in a format that needs no grow"}),
        Command("sample", {"RUN --prompt TEXT": "text that a language net writes"}),
        Command("list", {"[GROUP]": "every dataset, model, method, trigger, ..."}, "listing"),
        Command("completion", {"bash|zsh|fish": 'tab completion: eval "$(grow completion bash)"'}),
    )
}
"""All of them; usage and completion read this."""

# commands that have another name now
_NOW = {"retry": "sweep retry"}

_SIDE = 34  # where the usage says what a command does


def usage() -> str:
    """What `grow --help` prints."""
    lines = ["grow: train neural networks that grow while they train", ""]
    for command in COMMANDS.values():
        for shape, says in command.uses.items():
            first, *more = says.splitlines()
            lines.append(f"  grow {command.name} {shape}".ljust(_SIDE) + first)
            lines += [" " * _SIDE + line for line in more]
    lines += ["  grow --version", "", *_HINTS]
    return "\n".join(lines) + "\n"


_HINTS = (
    "A config group is chosen by name (method=alether), a key is set by its path",
    "(method.rank=8, optimizer.lr=3e-4); `grow train --cfg job` shows all keys.",
    "`grow COMMAND --help` says more, `grow list method=tiny` and `grow list stop` explain",
    "keys. GROW_DATA_DIR: where datasets are. GROW_DEBUG=1: show an error's traceback.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; leaves by `sys.exit`."""
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    from grow_cli import console, launched, signals
    from grow_cli.commands import children

    for stream in (sys.stdout, sys.stderr):
        console.spell_out(stream)
    children.end_with_parent()
    try:
        console.out.quiet = launched.rank() > 0  # rank 0 speaks for all
        os.getcwd()
    except OSError:
        console.error("the working directory no longer exists: cd to another one")
        return 2
    try:
        with signals.told_through(), signals.handled(signals.interrupt, *signals.TERMINATING):
            code = _dispatch(arguments)
            sys.stdout.flush()
        return code
    except (UserError, TrainingFailed) as error:
        _show_traceback_if_asked()
        console.error(str(error))
        return 2 if isinstance(error, UserError) else 1
    except Interrupted as error:
        return 128 + error.signal_number
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is not None:
            raise
        _give_up_on_stdout()
        if isinstance(error, BrokenPipeError):  # `grow list | head`
            return 0
        _show_traceback_if_asked()
        console.error(f"writing failed ({error.strerror or error}): free some space and run the command again")
        return 2


def _give_up_on_stdout() -> None:
    """What still waits to be written would fail again when Python ends, with words of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_traceback_if_asked() -> None:
    if os.environ.get("GROW_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exc()


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command == "help" and rest and rest[0] not in ("-h", "--help", "help"):
        command, rest = rest[0], ["--help"]
    if command in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if command in ("-V", "--version"):
        from grow_cli import __version__

        print(f"grow {__version__}")
        return 0
    if command in _NOW:
        again = shlex.join([*_NOW[command].split(), *rest])
        raise UserError(f"`grow {command}` is `grow {_NOW[command]}` now: type `grow {again}`")
    if command not in COMMANDS:
        from difflib import get_close_matches

        from grow_cli import registry

        near = get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean `grow {near[0]}`?" if near else "see `grow --help`"
        if "=" in command and command.split("=")[0].lstrip("+~") in registry.groups():
            hint = f"did you mean `grow train {command}`?"
        raise UserError(f"`{command}` is not a grow command: {hint}")
    return int(COMMANDS[command].load().main(rest))
