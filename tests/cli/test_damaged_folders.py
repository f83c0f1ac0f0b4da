"""Every file of a run folder, damaged in every way: each command answers in a sentence, or does not read that file."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz.damages import COMMANDS, FILES, TYPED, Damage, cases, spoil

from grow_cli.records import plain_yaml


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, trained once, and one that was cut before its end."""
    from grow_cli.cli import main

    base = tmp_path_factory.mktemp("whole")
    for name in ("r", "good"):
        with pytest.raises(SystemExit) as left:
            main(["train", *TYPED, f"run_dir={base / name}", f"label={name}"])
        assert not left.value.code
    return base


def try_command(
    command: str, whole: Path, place: Path, grow: Callable[..., Any], name: str, damage: Damage, told: str
) -> None:
    """In a copy of the folder: exit code 0 or 2, no traceback, no library's raw words, nothing written elsewhere."""
    spoil(whole, place, name, damage, command)
    folder = place / "r"
    secret = os.environ["HOME"]
    os.chdir(place)
    before = {path for path in place.rglob("*") if not path.is_relative_to(folder)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = grow(*COMMANDS[command])
    what = f"{name} {told}, grow {command}: {outcome.code}\n{outcome.err}{outcome.out}"
    assert outcome.code in (0, 2), what
    assert "Traceback" not in outcome.err + outcome.out, what
    assert "Error(" not in outcome.err, what
    assert outcome.code == 0 or "error: " in outcome.err, what
    if "HOME" in told:
        assert secret not in outcome.err + outcome.out, what
        pages = [p for p in place.rglob("*") if p.suffix in (".json", ".html", ".md", ".yaml") and p.is_file()]
        assert not any(f"label: {secret}" in p.read_text(errors="replace") for p in pages), what
    made = {path.name for path in place.rglob("*") if not path.is_relative_to(folder)} - {path.name for path in before}
    assert made <= {"page.html"}, what
    assert not (place / "owned").exists(), what


def _try(chosen: list[tuple[str, str, Damage, str]], whole: Path, tmp_path: Path, grow: Callable[..., Any]) -> None:
    wrong = []
    for number, (name, told, damage, command) in enumerate(chosen):
        place = tmp_path / f"case-{number}"
        try:
            try_command(command, whole, place, grow, name, damage, told)
        except BaseException as error:
            wrong.append(f"{name} {told}, grow {command}: {type(error).__name__}: {str(error)[:300]}")
        shutil.rmtree(place)
    assert not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n".join(wrong)


# a fixed slice: the quick commands, every so many of the damages
_SLICE = 1201


def test_each_damage_is_answered_by_a_sentence(whole: Path, grow: Callable[..., Any], tmp_path: Path) -> None:
    quick = ("report", "eval", "export", "resume")
    some = [case for case in cases(whole) if case[3] in quick]
    _try(some[::_SLICE], whole, tmp_path, grow)


@pytest.mark.parametrize("key", ["growth", "method"])
@pytest.mark.parametrize("value", ["3", "x", "[null]"])
def test_a_report_of_a_config_with_something_else_in_a_groups_place_is_one_sentence(
    key: str, value: str, whole: Path, grow: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(whole / "r", tmp_path / "r")
    config = tmp_path / "r/.hydra/config.yaml"
    config.write_text(plain_yaml.dump(plain_yaml.load(config.read_text()) | {key: plain_yaml.load(value)}))
    outcome = grow("report", "r")
    assert (outcome.code, "config.yaml is damaged" in outcome.err) == (2, True), outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILES)
def test_every_damage_of_every_file_is_answered_by_every_command(
    name: str, command: str, whole: Path, grow: Callable[..., Any], tmp_path: Path
) -> None:
    _try([case for case in cases(whole) if case[0] == name and case[3] == command], whole, tmp_path, grow)
