"""A run by its name: a path, `latest`, or part of a name that only one run below outputs has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from grow_cli.errors import UserError
from grow_cli.files import is_there
from grow_cli.records.folder import RunFolder

OUTPUTS = Path("outputs")
"""Where runs are that no path names: below the working directory."""
LATEST = "latest"
_SHOWN = 5  # candidates of an ambiguous name


def named(given: Path, *, folders: bool = False) -> Path:
    """The run folder of this name; UserError that lists the candidates of an ambiguous name, or similar ones.

    An existing path wins, whatever it holds. A name of a whole folder wins over a part of one.

    :param folders: also accept a folder of runs by its whole name (`outputs/sweeps/mine` by `mine`)
    """
    if is_there(given) or given.is_absolute() or ".." in given.parts:
        return given
    runs = [path for path in scan(OUTPUTS) if "controls" not in path.relative_to(OUTPUTS).parts]
    if str(given) == LATEST:
        if not runs:
            raise UserError(f"there is no run below {OUTPUTS}, so there is no latest one: name a run folder")
        return max(runs, key=begun_at)
    part = given.as_posix().rstrip("/")
    holders = (
        {parent for path in runs for parent in path.parents if parent not in (OUTPUTS, Path())} if folders else set()
    )
    whole = [path for path in (*runs, *sorted(holders)) if _ends_with(path, part)]
    found = whole or [path for path in runs if part in path.relative_to(OUTPUTS).as_posix()]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(map(str, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
        raise UserError(f"{given} is part of the names of {len(found)} runs: write more of the name ({some})")
    if not runs:
        return given  # said by the command, which knows what it wanted
    near = get_close_matches(part, [word for path in runs for word in (path.name, _short(path))], n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}?" if near else f"`grow runs` lists the runs below {OUTPUTS}"
    raise UserError(f"{given} is neither a run folder nor part of the name of one below {OUTPUTS}: {hint}")


def scan(folder: Path) -> Iterator[Path]:
    """The run folders at and below one, controls among them; what a run holds besides is not looked at.

    For a thousand runs: a folder of a run is not searched, but for its controls.
    """
    if is_there(folder / ".hydra" / "config.yaml"):
        yield folder
        folder = folder / "controls"
    try:
        with os.scandir(folder) as entries:
            inner = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
    except OSError:
        return
    for name in inner:
        yield from scan(folder / name)


def begun_at(path: Path) -> float:
    """Seconds since 1970 at which a run folder was claimed."""
    try:
        return (RunFolder(path).hydra / "config.yaml").stat().st_mtime
    except OSError:
        return 0.0


def _ends_with(path: Path, part: str) -> bool:
    return f"/{path.as_posix()}".endswith(f"/{part}")


def _short(path: Path) -> str:
    return path.relative_to(OUTPUTS).as_posix()
