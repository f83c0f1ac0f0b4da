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

from fuzz import commands, damages
from fuzz.isolated import Ended, call, warm


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


def attempt(case: Case, whole: Path) -> tuple[Ended, str]:
    """How the command ended, and what kind of fault that is (empty: none)."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        base = Path(folder)
        work = base / "work"
        if case.damaged is None:
            work.mkdir()
            ended = call(case.typed, work, base, "run")
            return ended, ended.wrong() or _unsaid(ended, work)
        name, told, damage, command = case.damaged
        damages.spoil(whole, work, name, damage, command)
        ended = call(case.typed, work, base, "r")
        wrong = ended.wrong(allowed=("/work/page.html", "/work/.page.html"))
        return ended, wrong or (_leak(ended, work, str(base / "home")) if "HOME" in told else "")


def _unsaid(ended: Ended, work: Path) -> str:
    summary = work / "run" / "summary.json"
    return "exit code 1 without a summary" if ended.code == 1 and "out of memory" not in ended.err and not summary.exists() else ""


def _leak(ended: Ended, work: Path, secret: str) -> str:
    if secret in ended.out + ended.err:
        return "a variable of the environment is printed"
    pages = [p for p in work.rglob("*") if p.suffix in (".json", ".html", ".md", ".yaml") and not p.is_symlink() and p.is_file()]
    found = [p.name for p in pages if secret in p.read_text(errors="replace")]
    return f"a variable of the environment is written to {found[0]}" if found else ""


def train_whole(base: Path) -> Path:
    """The two finished runs that are damaged."""
    whole = base / "whole"
    whole.mkdir()
    for name in ("r", "good"):
        ended = call(["train", *damages.TYPED, f"run_dir={name}", f"label={name}"], whole, base, name)
        assert ended.code == 0, ended.err
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--lines", type=int, default=6000, metavar="N", help="command lines")
    parser.add_argument("--damages", type=int, default=4000, metavar="N", help="damages of a run folder")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of cases")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="leave out the cases before this one")
    parser.add_argument("--only", type=int, metavar="N", help="try this case alone, and show what it prints")
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
    for number, case in enumerate(cases(given.lines, given.damages, given.seed, whole)):
        if number < given.first or given.only not in (None, number):
            continue
        ended, wrong = attempt(case, whole)
        tried += 1
        if given.only is not None:
            print(case, ended.code, ended.out, ended.err, *ended.written, sep="\n")
        if wrong:
            kinds[wrong] += 1
            if kinds[wrong] == 1:
                print(f"{number}: {wrong}\n    {str(case)[:600]}", flush=True)
        if tried % 250 == 0:
            print(f"{tried} cases, {sum(kinds.values())} at fault, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"seed {given.seed}: {tried} cases in {time.monotonic() - begun:.0f} s, {sum(kinds.values())} at fault, {len(kinds)} kinds")
    for kind, count in kinds.most_common():
        print(f"  {count} x {kind}")
    return int(bool(kinds))


if __name__ == "__main__":
    sys.exit(main())
