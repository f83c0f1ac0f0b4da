"""Runs found, listed, shown and held side by side: `grow runs`, `show`, `diff`, `watch`, and the names that they take."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from grow_cli import console
from grow_cli.commands.show import merged
from grow_cli.commands.watch import follow
from grow_cli.errors import UserError
from grow_cli.records.events import GrowthEvent
from grow_cli.records.folder import RunFolder
from grow_cli.records.named import named


def _claim(path: Path, when: float, **summary: object) -> Path:
    """A run folder as far as names and tables read it."""
    (path / ".hydra").mkdir(parents=True)
    config = path / ".hydra/config.yaml"
    config.write_text("dataset: {name: digits}\nmethod: {name: tiny}\nseed: 0\noptimizer: {name: adamw, lr: 0.001}\n")
    os.utime(config, (when, when))
    if summary:
        (path / "summary.json").write_text(json.dumps(summary))
    return path


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two finished runs and one that was killed, the second the newest, with a control in the first."""
    monkeypatch.chdir(tmp_path)
    rest = {"status": "finished", "dataset": "digits", "parameters": 1234567, "events": 2}
    runs = [
        _claim(Path("outputs/digits/tiny/monday-aaa"), 1e9, method="tiny", seed=0, val_accuracy=0.5, **rest),
        _claim(Path("outputs/sweeps/mine/0-seed=7"), 3e9, method="fold", seed=7, val_accuracy=0.75, **rest),
        _claim(Path("outputs/digits/tiny/tuesday-aab"), 2e9),
    ]
    _claim(runs[0] / "controls/static-steps", 4e9, method="static", seed=0, val_accuracy=0.9, **rest)
    return runs


def test_latest_is_the_run_begun_last_and_never_a_control(three: list[Path]) -> None:
    assert named(Path("latest")) == three[1]


def test_a_part_that_one_run_has_is_its_name(three: list[Path]) -> None:
    assert named(Path("monday")) == three[0]
    assert named(Path("tiny/tue")) == three[2]
    assert named(Path("seed=7")) == three[1]


def test_an_ambiguous_part_lists_the_candidates(three: list[Path]) -> None:
    with pytest.raises(UserError, match=r"names of 2 runs.*monday-aaa.*tuesday-aab"):
        named(Path("aa"))


def test_a_name_that_is_nobodys_names_the_nearest(three: list[Path]) -> None:
    with pytest.raises(UserError, match="did you mean monday-aaa"):
        named(Path("mondy-aaa"))


def test_an_existing_path_wins_over_every_name(three: list[Path]) -> None:
    Path("latest").mkdir()
    assert named(Path("latest")) == Path("latest")


def test_a_sweep_is_named_where_folders_are_taken_only(three: list[Path]) -> None:
    assert named(Path("mine"), folders=True) == Path("outputs/sweeps/mine")
    assert named(Path("mine")) == three[1], "elsewhere it is a part of its one run's name"


def test_a_table_sorts_by_score_filters_and_takes_the_last(grow: Callable, three: list[Path]) -> None:
    out = grow("runs", "--sort", "val").out.splitlines()
    assert [line.split()[-1] for line in out[1:]] == [str(p.relative_to("outputs")) for p in three[1::-1] + three[2:]]
    assert "killed" in out[3]
    assert grow("runs", "--filter", "method=fold").out.splitlines()[1].endswith("0-seed=7")
    assert len(grow("runs", "--filter", "optimizer.lr=1e-3").out.splitlines()) == 4, "keys of the config, too"
    assert len(grow("runs", "--last", "1").out.splitlines()) == 2
    assert "static" not in grow("runs").out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--sort", "speed"], "must be one of when, val"),
        (["--filter", "method"], "write KEY=VALUE"),
        (["--filter", "optimiser=adam"], "no run has the key optimiser"),
        (["--last", "0"], "1 or more"),
        (["nowhere"], "there is no run below nowhere"),
    ],
)
def test_a_mistake_in_what_is_listed_is_a_sentence(
    grow: Callable, three: list[Path], typed: list[str], says: str
) -> None:
    outcome = grow("runs", *typed)
    assert outcome.code == 2
    assert says in outcome.err


def test_a_damaged_run_is_a_line_of_the_table(grow: Callable, three: list[Path]) -> None:
    (three[0] / "summary.json").write_text("{")
    outcome = grow("runs")
    assert outcome.code == 0
    assert "damaged" in outcome.out
    assert len(outcome.out.splitlines()) == 4


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_value_is_cut_however_narrow_the_terminal(
    grow: Callable, three: list[Path], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(console, "out", Console(force_terminal=True, width=width, highlight=False, color_system=None))
    out = grow("runs").out
    assert "…" not in out
    assert out.count("1,234,567") == 2
    assert all(path.name in out for path in three)


def test_events_that_are_alike_are_one_word() -> None:
    grew = [GrowthEvent(site="hidden 1", units_added=2, kind="width") for _ in range(3)]
    nothing = [GrowthEvent(details={"reason": "too small"}) for _ in range(2)]
    assert merged([*grew, *nothing]) == ["hidden 1 (+2 units) ×3", "nothing (too small) ×2"]


@pytest.mark.slow
def test_a_run_is_shown_told_from_another_and_followed(grow: Callable, wide: tuple[str, ...], tmp_path: Path) -> None:
    assert grow("train", "method=tiny", *wide, "stop.epochs=8", "growth.until=1", "run_dir=outputs/one").code == 0
    shown = grow("show", "latest").out
    for words in ("outputs/one", "finished", "optimizer.lr=0.001  (default:", "grow report outputs/one", "What grew: "):
        assert words in shown, words
    shutil.copytree("outputs/one", "outputs/two")
    config = Path("outputs/two/.hydra/config.yaml")
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.002"))
    told = grow("diff", "one", "two").out.splitlines()
    assert [line.split() for line in told if "lr" in line] == [["optimizer.lr", "0.001", "0.002"]]
    assert told[-1] == "no result differs"
    assert grow("diff", "one").code == 2
    watched = grow("watch", "one").out.splitlines()
    assert watched[-1] == "finished: 8 epochs"
    assert any(line.startswith("grew at step 50") for line in watched)


def test_watching_ends_when_the_run_ends_and_says_each_evaluation_once(three: list[Path]) -> None:
    folder = RunFolder(three[2])
    folder.metrics.write_text("step,epoch,val_loss\n1,0.5,3.0\n")
    lock = os.open(three[2] / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            with folder.metrics.open("a") as file:
                file.write("2,1.0,2.5\n3,1.5,2.")  # the last row is still being written
        else:
            os.close(lock)

    said = list(follow(folder, wait))
    assert said[-1] == "killed"
    assert len(said) == 4, said
    assert [line.split()[-1] for line in said[1:3]] == ["3", "2.5"]
