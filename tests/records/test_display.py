"""What a person sees: the live display on a terminal, nothing where there is none."""

from __future__ import annotations

import io
import itertools
import math

import pytest
from rich.console import Console

from grow_cli import console
from grow_cli.analysis.summary import show
from grow_cli.records.events import GrowthEvent
from grow_cli.records.folder import RunFolder
from grow_cli.training.display import (
    Display,
    LineDisplay,
    LiveDisplay,
    NowAndThen,
    WhileItLasts,
    event_lines,
    make_display,
)

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
    seldom = make_display("auto", "")
    assert isinstance(seldom, WhileItLasts)
    assert isinstance(seldom.shown, NowAndThen)
    assert type(make_display("off", "")) is Display
    lines = make_display("lines", "")
    assert isinstance(lines, WhileItLasts)
    assert type(lines.shown) is LineDisplay


def test_a_run_that_nobody_watches_says_something_at_once_and_ever_more_seldom(screen: Console) -> None:
    now = 0.0
    display = NowAndThen("title", lambda: now)
    at = []
    for second in range(1, 1001):  # ten evaluations a second
        for tenth in range(10):
            now = second + tenth / 10
            before = len(_text(screen))
            display.evaluation(ROW, {}, "")
            if len(_text(screen)) > before:
                at.append(round(now))
    assert at[:6] == [2, 4, 8, 16, 32, 64]
    assert {later - earlier for earlier, later in itertools.pairwise(at[5:])} == {60}
    assert _text(screen).count("\n") == len(at) + 1


def test_events_between_two_lines_are_counted(screen: Console) -> None:
    clock = iter((0.0, 0.5, 1.0, 1.5, 5.0, 5.0))
    display = NowAndThen("title", lambda: next(clock))
    for _ in range(4):
        display.growth(GrowthEvent(**EVENT), 100)
    told = _text(screen).strip().splitlines()
    assert len(told) == 2
    assert told[1].endswith("(after 3 other events since the last line)")


def test_firings_that_added_nothing_for_one_reason_are_one_line() -> None:
    nothing = EVENT | {"units_added": 0, "details": {"reason": "too small"}}
    other = EVENT | {"units_added": 0, "details": {"reason": "no room"}}
    log = [GrowthEvent(**e) for e in (EVENT, EVENT, nothing, nothing, nothing, other)]
    lines = event_lines(log)
    assert len(lines) == 4
    assert ["×3" in line for line in lines] == [False, False, True, False]


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_shows_the_run_folder_and_all_widths_whole(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, height=60, color_system=None)
    monkeypatch.setattr(console, "out", terminal)
    folder, widths = "/a/long/way/to/" + "outputs/digits/" * 8 + "the-run", "-".join(["128"] * 30)
    display = LiveDisplay("digits · mlp · tiny · adf", folder, falling=("adf_pvalue",))
    display.start(100, {})
    display.evaluation(ROW | {"widths": widths}, {}, "")
    display.stop()
    terminal.file = io.StringIO()
    terminal.print(display._render())
    shown = "".join(line.strip("│ ") for line in _text(terminal).splitlines())
    assert folder in shown
    assert widths in shown, "over several lines"
    assert "…" not in shown


def test_a_reading_that_falls_to_its_threshold_is_marked_when_it_is_below(monkeypatch: pytest.MonkeyPatch) -> None:
    display = LiveDisplay("title", falling=("p",))
    display._rows.append({"trigger/p": 0.5, "trigger/tau": 0.5})
    display._thresholds = {"p": 0.05, "tau": 0.05}
    marked = [span.style for span in display._readings().spans if "bold" in str(span.style)]
    assert marked == ["bold", "bold yellow"]


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
    for words in ("block [2]", "1.000→1.500→0.900", "25%", "nothing: nothing [b]left[/b]", "2 epochs", str(tmp_path)):
        assert words in text, words
