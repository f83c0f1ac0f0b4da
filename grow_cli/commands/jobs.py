"""Which jobs a sweep has, what identifies each, and in which folder it is trained.

A job is identified by its overrides, less those whose role says that they do not make it another run (`keys.Role`), not by
its number, which shifts when a sweep is extended. A key that is swept over counts in any case: whoever sweeps over devices
wants a run on each.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from grow_cli.keys import OF_THE_RUN
from grow_cli.records.folder import RunFolder
from grow_cli.records.grammar import key_of
from grow_cli.records.jobs import Entry, Jobs, number_of, read_jobs, with_ends, write_jobs
from grow_cli.schema import role_of

# of the keys that a job is identified by, and of those in which two runs of one job may not differ
IDENTIFYING = (*OF_THE_RUN, "name", "data")


@dataclass(frozen=True)
class Plan:
    """The jobs of one line, in the order in which Hydra numbers them."""

    jobs: list[list[str]]
    """The overrides of each."""
    line: tuple[str, ...]
    """As it was typed, the folder left out."""
    swept: frozenset[str]
    """The keys that have several values."""


def planned(config: DictConfig, overrides: Sequence[Override]) -> list[list[str]] | None:
    """The jobs of a sweep; None where its sweeper is no plain product of the values, or cannot say it."""
    if not str(OmegaConf.select(config, "hydra.sweeper._target_")).endswith(".BasicSweeper"):
        return None
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    try:
        also = OverridesParser.create().parse_overrides([f"{name}={value}" for name, value in params.items()])
        (jobs,) = BasicSweeper.split_arguments([*also, *overrides], None)
    except HydraException:  # said when the sweep begins
        return None
    return jobs


def names_its_jobs(config: DictConfig) -> bool:
    """Whether the jobs' folders are named as `conf/train.yaml` has it, and not by a `hydra.sweep.subdir` of the user's."""
    subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    return isinstance(subdir, dict) and "grow.slug" in str(subdir.get("subdir"))


def identifying(overrides: Iterable[str], swept: Collection[str] = ()) -> list[str]:
    """The overrides that make a job what it is, in order."""

    def counts(override: str) -> bool:
        name = key_of(override).split("@")[0]
        return name != "sweep" and (name in swept or role_of(name) in IDENTIFYING)

    return sorted(unquoted(override) for override in overrides if counts(override))


def told(overrides: Iterable[str], swept: Collection[str]) -> str:
    """What distinguishes a job from the other jobs: `method=tiny seed=1`."""
    return " ".join(unquoted(override) for override in overrides if key_of(override) in swept)


def unquoted(override: str) -> str:
    """`label='10'` is what `label=10` becomes where a key takes text."""
    return re.sub(r"^([^=]+)='([^'\\]*)'$", r"\1=\2", override)


def slug(overrides: Iterable[str]) -> str:
    """A sweep's job folder from its overrides: no separators, below 255 bytes, never empty."""
    name = re.sub(r"[^\w.=+-]+", "_", ",".join(identifying(overrides))) or "defaults"
    return name if len(name.encode()) <= 120 else f"{name[:100]}-{sha256(name.encode()).hexdigest()[:8]}"


def register(sweep: Path, plan: Plan) -> tuple[dict[tuple[str, ...], str], list[str]]:
    """What identifies a job → its folder's name, of all of a plan; and the names that `jobs.json` did not have before.

    Called under the sweep's lock. A job keeps the folder in which it was begun, whatever its number was then.
    """
    known = read_jobs(sweep)
    found = {identity: entry.folder for identity, entry in known.found.items()}
    folders = _numbered(sweep)
    taken = set(known.named) | {name for names in folders.values() for name in names}
    place: dict[tuple[str, ...], str] = {}
    new: list[Entry] = []
    for number, overrides in enumerate(plan.jobs):
        identity, name = tuple(identifying(overrides, plan.swept)), slug(overrides)
        if identity in place:
            continue
        folder = found.get(identity) or _holding(sweep, folders[name], identity, plan.swept)
        if folder is None:
            folder = f"{number}-{name}"
            if folder in taken and (folder in known.named or RunFolder(sweep / folder).claimed):
                folder = f"{1 + max(map(number_of, taken))}-{name}"
        if folder not in known.named:
            new.append(Entry(folder, identity, told(overrides, plan.swept)))
        taken.add(folder)
        place[identity] = folder
    jobs = with_ends(known, [(folder, "", "") for folder in place.values()])
    jobs = Jobs((*jobs.entries, *new), tuple(dict.fromkeys((*jobs.lines, plan.line))))
    if jobs != known:
        write_jobs(sweep, jobs)
    return place, [entry.folder for entry in new]


def forget(sweep: Path, names: Collection[str], line: tuple[str, ...]) -> None:
    """Take back what `register` added, where the line turned out to be wrong before any job of it began."""
    known = read_jobs(sweep)
    kept = tuple(e for e in known.entries if e.folder not in names or RunFolder(sweep / e.folder).claimed)
    if kept:
        write_jobs(sweep, replace(known, entries=kept, lines=tuple(one for one in known.lines if one != line)))
    else:
        (sweep / "jobs.json").unlink(missing_ok=True)


def find(own: Path, swept: Collection[str], place: dict[tuple[str, ...], str]) -> RunFolder:
    """The folder of this job: where `jobs.json` has it, else where it was begun before; else `own`, the one Hydra made."""
    wanted = tuple(identifying(HydraConfig.get().overrides.task, swept))
    name = place.get(wanted)
    if name is not None and _identity(own.parent / name, swept) in (None, wanted):
        return RunFolder(own.parent / name)
    same = own.name.partition("-")[2]
    names = [own.name, *sorted(_numbered(own.parent)[same])] if same else [own.name]
    return RunFolder(own.parent / (_holding(own.parent, names, wanted, swept) or own.name))


def _holding(sweep: Path, names: Iterable[str], wanted: tuple[str, ...], swept: Collection[str]) -> str | None:
    """The first of some folders in which this job was begun."""
    return next((name for name in names if _identity(sweep / name, swept) == wanted), None)


def _identity(path: Path, swept: Collection[str]) -> tuple[str, ...] | None:
    """What identifies the job in a folder; None where there is none."""
    if not (path / ".hydra" / "overrides.yaml").is_file():
        return None
    return tuple(identifying(RunFolder(path).overrides(), swept))


def _numbered(sweep: Path) -> dict[str, list[str]]:
    """The names of the folders like `3-method=tiny,seed=1`, by what stands after the number."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        with os.scandir(sweep) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return found
    for name in names:
        number, _, rest = name.partition("-")
        if number.isdigit() and rest:
            found[rest].append(name)
    return found
