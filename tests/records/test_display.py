"""What a person sees: the live display on a terminal, nothing where there is none."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from grow_cli import console
from grow_cli.analysis.summary import show
from grow_cli.records.events import GrowthEvent
from grow_cli.records.folder import RunFolder
from grow_cli.training.display import Display, LineDisplay, LiveDisplay, WhileItLasts, make_display

ROW = {
    "step": 40, "epoch": 1.0, "parameters": 21834, "widths": "64-64", "lr": 2e-3, "train_loss": 0.5, "train_accuracy": 0.8,
    "val_loss": 0.6, "val_accuracy": 0.75, "trigger/tau": 2.5, "trigger/kappa": 0.25, "trigger/rho": math.nan,
}  # fmt: skip
EVENT = {
    "event": 1, "kind": "depth", "epoch": 1.0, "step": 40, "site": "block [2]", "units_added": 64, "parameters_before": 100,
    "parameters_after": 200, "widths_before": "64", "widths_after": "64-64", "loss_before": 1.0, "loss_after": 1.5,
    "loss_settled": 0.9, "details": {}, "function_change_relative": 0.25, "growth_seconds": 0.5,
}  # fmt: skip


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 110 columns that remembers what it was sent."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=110, height=40, color_system=None)
    monkeypatch.setattr(console, "out", terminal)
    return terminal


def _text(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_live_display_shows_readings_against_thresholds_and_every_event(screen: Console) -> None:
    display = LiveDisplay("digits · [/x] · outputs/[run]")  # markup in a path must not raise
    display.start(4000, {})
    display.evaluation(ROW, {"tau": 2.0, "kappa": 0.5}, "")
    display.growing()
    display.growth(GrowthEvent(**EVENT), 100)
    display.evaluation(ROW, {"tau": 2.0}, "growth.max_events=1 is reached")
    display._refresh()
    display.stop()
    text = _text(screen)
    for words in ("0.6000", "0.7500", "tau 2.5 / 2", "kappa 0.25", "100 → 200 parameters", "block [2]", "[/x]"):
        assert words in text, words
    assert "no more growth: growth.max_events=1 is reached" in text
    assert "rho" not in text, "what has no value yet is not shown"


def test_lines_are_a_line_each(screen: Console) -> None:
    display = LineDisplay("title")
    display.evaluation(ROW, {}, "")
    display.growth(GrowthEvent(**EVENT), 100)
    display.growth(GrowthEvent(**EVENT | {"units_added": 0, "details": {"reason": "too few [snapshots]"}}), 100)
    lines = _text(screen).strip().splitlines()
    assert len(lines) == 4
    assert "too few [snapshots]" in lines[-1]


def test_auto_is_live_on_a_terminal_only(screen: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    live = make_display("auto", "")
    assert isinstance(live, WhileItLasts)
    assert isinstance(live.shown, LiveDisplay)
    monkeypatch.setattr(console, "out", Console(file=io.StringIO()))
    assert type(make_display("auto", "")) is Display
    assert type(make_display("off", "")) is Display
    lines = make_display("lines", "")
    assert isinstance(lines, WhileItLasts)
    assert isinstance(lines.shown, LineDisplay)


def test_the_ending_says_what_grew_and_where_it_is(screen: Console, tmp_path: pytest.TempPathFactory) -> None:
    folder = RunFolder(tmp_path)  # type: ignore[arg-type]
    folder.append_growth(EVENT)
    folder.append_growth(EVENT | {"units_added": 0, "details": {"reason": "nothing [b]left[/b]"}})
    summary = {f"{split}_{kind}": 0.5 for split in ("train", "val", "test") for kind in ("accuracy", "loss")}
    summary |= {
        "parameters": 200,
        "steps": 40,
        "growth_steps": 500,
        "seconds": 1.0,
        "growth_seconds": 0.1,
        "training_flops": 1e9,
    }
    show(
        folder,
        summary
        | {
            "device": "cpu (1 thread)",
            "ended_by": "2 epochs",
            "ended": {"rule": "epochs", "value": 2},
            "trigger": "every",
        },
    )
    text = _text(screen)
    for words in ("block [2]", "1.000→1.500→0.900", "25%", "nothing [b]left[/b]", "2 epochs", str(tmp_path)):
        assert words in text, words
