"""Random command lines and damaged run folders by the thousand; each distinct kind of fault is told once, with an example.

    python -m fuzz --lines 6000 --damages 4000 --seed 1    # in tests/; the exit code is 1 if there is a fault

The same seed makes the same cases; `--only 17` (a number that was told) tries one of them again and shows what it printed.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import commands, damages
from fuzz.isolated import Command, Ended, call, warm

BATCH = 25  # cases in one process: most of a fork's cost is that it touches its parent's memory for the first time


@dataclass(frozen=True)
class Case:
    """What is tried: a command line, after the damage of a file if there is one."""

    typed: list[str]
    damaged: tuple[str, str, damages.Damage, str] | None = None
    """(file, the damage's name, damage, command)."""

    def __str__(self) -> str:
        where = f"{self.damaged[0]} {self.damaged[1]}: " if self.damaged else ""
        return where + shlex.join(["grow", *self.typed])


def cases(lines: int, damaged: int, seed: int, whole: Path) -> Iterator[Case]:
    """Command lines first: each value of each key alone in a random order, and then two or three of them at a time."""
    draw = random.Random(seed)
    pairs = list(commands.cases())
    alone = draw.sample(pairs, len(pairs))
    for number in range(lines):
        picked = [alone[number]] if number < len(alone) else draw.sample(pairs, draw.choice((2, 3)))
        yield Case(commands.typed(picked))
    of_folders = [case for case in damages.cases(whole) if not (case[3] == "resume" and case[0] == "summary.json")]
    for case in draw.sample(of_folders, min(damaged, len(of_folders))):
        yield Case(list(damages.COMMANDS[case[3]]), case)


def attempt(batch: list[Case], whole: Path) -> list[tuple[Ended, str]]:
    """How the commands ended, in one process, and what kind of fault that is (empty: none)."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        commands = [_placed(case, Path(folder) / str(number), whole) for number, case in enumerate(batch)]
        all_ended = call(commands)
        return [(e, _wrong(case, command, e)) for case, command, e in zip(batch, commands, all_ended, strict=True)]


def _placed(case: Case, base: Path, whole: Path) -> Command:
    base.mkdir()
    command = Command(case.typed, base, "r" if case.damaged else "run")
    if case.damaged is None:
        command.work.mkdir()
    else:
        name, _, damage, word = case.damaged
        damages.spoil(whole, command.work, name, damage, word)
    return command


def _wrong(case: Case, command: Command, ended: Ended) -> str:
    if case.damaged is None:
        return ended.wrong() or _unsaid(ended, command.work)
    leaked = _leak(ended, command.work, str(command.base / "home")) if "HOME" in case.damaged[1] else ""
    return ended.wrong(allowed=("/work/page.html", "/work/.page.html")) or leaked


def _unsaid(ended: Ended, work: Path) -> str:
    summary = work / "run" / "summary.json"
    return (
        "exit code 1 without a summary"
        if ended.code == 1 and "out of memory" not in ended.err and not summary.exists()
        else ""
    )


def _leak(ended: Ended, work: Path, secret: str) -> str:
    if secret in ended.out + ended.err:
        return "a variable of the environment is printed"
    pages = [
        p
        for p in work.rglob("*")
        if p.suffix in (".json", ".html", ".md", ".yaml") and not p.is_symlink() and p.is_file()
    ]
    found = [p.name for p in pages if secret in p.read_text(errors="replace")]
    return f"a variable of the environment is written to {found[0]}" if found else ""


def train_whole(base: Path) -> Path:
    """The two finished runs that are damaged."""
    whole = base / "work"
    whole.mkdir()
    for name in ("r", "good"):
        [ended] = call([Command(["train", *damages.TYPED, f"run_dir={name}", f"label={name}"], base, name)])
        assert ended.code == 0, ended.err
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--lines", type=int, default=6000, metavar="N", help="command lines")
    parser.add_argument("--damages", type=int, default=4000, metavar="N", help="damages of a run folder")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of cases")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with the so many-th of their order")
    parser.add_argument("--only", type=int, metavar="N", help="try this case alone, and show what it prints")
    parser.add_argument("--minutes", type=float, default=float("inf"), metavar="M", help="begin nothing after so long")
    given = parser.parse_args()
    warm()
    base = Path(tempfile.mkdtemp(prefix="fuzz-whole-"))
    try:
        return run(given, train_whole(base))
    finally:
        shutil.rmtree(base)


def run(given: argparse.Namespace, whole: Path) -> int:
    """Try them; 1 if one was at fault."""
    kinds: Counter[str] = Counter()
    tried, begun = 0, time.monotonic()
    numbered = list(enumerate(cases(given.lines, given.damages, given.seed, whole)))
    random.Random(given.seed).shuffle(numbered)  # so that whatever is stopped has tried some of each
    chosen = [(number, case) for number, case in numbered[given.first :] if given.only in (None, number)]
    for some in batched(chosen, BATCH):
        if time.monotonic() - begun > 60 * given.minutes:
            break
        for (number, case), (ended, wrong) in zip(some, attempt([case for _, case in some], whole), strict=True):
            tried += 1
            if given.only is not None:
                print(case, ended.code, ended.out, ended.err, *ended.written, sep="\n")
            kinds.update([wrong] if wrong else [])
            if kinds[wrong] == 1:
                alone = attempt([case], whole)[0][1] if len(some) > 1 else wrong
                note = "" if alone == wrong else f" (alone: {alone or 'nothing wrong'})"
                print(f"{number}: {wrong}{note}\n    {str(case)[:600]}", flush=True)
        if tried % (10 * BATCH) == 0:
            print(f"{tried} cases, {sum(kinds.values())} at fault, {time.monotonic() - begun:.0f} s", flush=True)
    seconds = time.monotonic() - begun
    print(f"seed {given.seed}: {tried} cases in {seconds:.0f} s, {sum(kinds.values())} at fault, {len(kinds)} kinds")
    for kind, count in kinds.most_common():
        print(f"  {count} x {kind}")
    return int(bool(kinds))


def batched(items: list[Any], size: int) -> Iterator[list[Any]]:
    """So many at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


if __name__ == "__main__":
    sys.exit(main())
