"""What a person reads in a terminal: nothing is cut, nothing is said twice, and what to type next is right."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grow_cli import console
from grow_cli.analysis.missed import Missed, _config, near_misses, rounded_down
from grow_cli.analysis.ranking import ranking, show_ranking
from grow_cli.analysis.summary import rows
from grow_cli.commands.controls import once
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Console]:
    """`terminal(80)` is stdout from then on; its `file` is what it was sent."""

    def of(width: int) -> Console:
        shown = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
        monkeypatch.setattr(console, "out", shown)
        return shown

    return of


def _text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def _event(step: int, site: str = "hidden 1", units: int = 2, reason: str = "", **more: Any) -> GrowthEvent:
    details = {"reason": reason} if reason else {}
    return GrowthEvent(
        step=step, site=site, units_added=units, details=details, widths_after="-".join(["1234"] * 9), loss_before=1.0,
        loss_after=0.5, loss_settled=0.25, parameters_after=1234567, function_change_relative=0.5, **more,
    )  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_cell_of_what_grew_is_cut_however_narrow_the_terminal(
    width: int, terminal: Callable[[int], Console]
) -> None:
    shown = terminal(width)
    reason = "no eigenvalue is above what chance explains, " * 4
    log = [_event(10, "; ".join(["hidden 1", "hidden 1", "a site with a long name"])), _event(20, "", 0, reason)]
    console.table(("step", "parameters", "loss*", "Δf", "s", "widths", "where"), rows(log), right=("step",))
    words = " ".join(_text(shown).split())
    for value in (
        "1,234,567",
        "1.000→0.500→0.250",
        log[0].widths_after,
        "hidden 1 ×2; a site with a long name",
        reason,
    ):
        assert value.strip() in words
    assert "…" not in words
    if width >= 80:
        assert max(map(len, _text(shown).splitlines())) <= width


def test_what_happens_again_is_one_row_with_a_number() -> None:
    nothing = [_event(step, "", 0, "too small") for step in (10, 20, 30)]
    assert rows(nothing) == ["step 10 to 30: nothing ×3: too small"]
    assert len(rows([_event(10), _event(20), *nothing])) == 3, "a few growths have a row each"
    many = rows([_event(step) for step in range(10, 300, 10)])
    assert [row[-1] for row in many] == ["hidden 1 ×29 since step 10"]

    both = rows([_event(step, "hidden 1; hidden 2") for step in range(10, 300, 10)])
    assert [row[-1] for row in both] == ["(hidden 1; hidden 2) ×29 since step 10"]


def test_prose_is_broken_between_words_on_a_terminal_and_a_line_elsewhere(terminal: Callable[[int], Console]) -> None:
    sentence, path = "word " * 30, "/a/path/of-its-own" * 9
    shown = terminal(80)
    console.say(sentence + path)
    *lines, last = _text(shown).splitlines()
    assert all(len(line) <= 80 and line.split() == ["word"] * len(line.split()) for line in lines)
    assert path in last, "it can be copied whole"
    piped = Console(file=io.StringIO(), width=80)
    assert console.broken(sentence + path, piped) == sentence + path


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        pytest.param({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_terminal_of_ascii_is_sent_ascii(locale: dict[str, str]) -> None:
    code = (
        "import sys; from rich.table import Table; from grow_cli import console\n"
        "console.spell_out(sys.stdout); console.warn('1 × 2')\n"
        "table = Table(title='a · b'); table.add_column('Δf'); table.add_row('1 → 2 …'); console.uncut(table)\n"
        "console.table(('n', 'Δ'), [('1→2', 'x'), ('3', 'y')]); console.out.print('█', markup=False)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | locale | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=True,
    )
    for stream in (done.stdout, done.stderr):
        stream.decode("ascii")
        assert b"?" not in stream
    assert b"| 1 -> 2 ... |" in done.stdout
    assert b"1->2  x\n3     y\n" in done.stdout, "columns stand where they should"
    assert b"1 x 2" in done.stderr


def test_letters_that_no_ascii_spells_are_kept_where_the_encoding_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    assert console.spelt("café → ½", console.out) == "café -> ½"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert console.spelt("café → ½", console.out) == "café → ½"


def test_a_sentence_that_holds_for_several_controls_is_said_once() -> None:
    told = [("static-steps", "it grew batches"), ("random-replay", "an old log"), ("static-flops", "it grew batches")]
    assert once(told) == [(["static-steps", "static-flops"], "it grew batches"), (["random-replay"], "an old log")]


@pytest.mark.parametrize(("number", "down"), [(0.43, 0.4), (26.7, 20), (1, 1), (0.1, 0.1), (0.00799, 0.007), (9.99, 9)])
def test_a_suggested_interval_has_one_digit_and_is_no_longer(number: float, down: float) -> None:
    assert rounded_down(number) == down


@pytest.mark.parametrize(
    ("missed", "words"),
    [
        (Missed("tau", 2.0, 1.7, False), "tau reached 1.7 but must be at least 2 (0.3 missing)"),
        (Missed("adf_pvalue", 0.05, 0.31, True), "adf pvalue reached 0.31 but must be at most 0.05 (0.26 too high)"),
        (Missed("kappa", 0.5, 0.6, False), "kappa reached 0.6, as required (at least 0.5)"),
        (Missed("tau", 2.0, None, False), "tau was never read, and must be at least 2"),
    ],
)
def test_a_missed_threshold_says_by_how_much(missed: Missed, words: str) -> None:
    assert missed.words == words


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("stop.epochs=4 trigger=every", "epochs since reached 2 but must be at least 10 (8 missing)"),
        pytest.param(
            "stop.epochs=4 trigger=every trigger.unit=steps trigger.every=900",
            "must be at least 900",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "stop.epochs=5 trigger=every evaluate.every=1.5", "epochs since reached 1.5 ", marks=pytest.mark.slow
        ),
        pytest.param("stop.epochs=4 trigger=plateau", "evaluations without gain reached ", marks=pytest.mark.slow),
    ],
)
def test_nothing_grew_names_the_reading_and_a_remedy_that_works(typed: str, nearest: str, grow: Callable) -> None:
    basis = ("train", "method=tiny", "growth.neurons=1", "batch_size=48", "subset=300", "device=cpu")
    words = " ".join(grow(*basis, *typed.split(), "run_dir=first").out.split())
    assert f"Nothing grew: trigger={'plateau' if 'plateau' in typed else 'every'} never fired" in words
    assert nearest in words
    assert "(growth.until=0.6 of" in words
    remedy = words.split("`")[1]
    times = int(words.split("` grows ")[1].split()[0])
    again = grow(*basis, *typed.split(), *remedy.split(), "run_dir=second")
    assert again.code == 0, again.err
    assert len(growth_events(RunFolder(Path("second")))) == times


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        pytest.param("growth.until=0", "Nothing grew: growth.until=0 allows no growth.", marks=pytest.mark.slow),
        pytest.param("growth.max_events=0", "growth.max_events=0 allows no growth", marks=pytest.mark.slow),
        pytest.param("growth.max_parameters=3", "growth.max_parameters=3 is not more", marks=pytest.mark.slow),
        pytest.param(
            "stop.val_score=0.01", "the run reached its score before the trigger fired", marks=pytest.mark.slow
        ),
    ],
)
def test_growth_that_could_not_be_is_no_miss(typed: str, words: str, grow: Callable) -> None:
    out = grow("train", "method=tiny", "subset=60", "stop.epochs=2", "device=cpu", typed, "run_dir=r").out
    assert words in " ".join(out.split())


def _watched(path: Path, stop: dict[str, float], readings: list[float]) -> RunFolder:
    """A run of ten evaluations, one an epoch of ten steps, and what its trigger (at epochs in vain) has read."""
    (path / ".hydra").mkdir(parents=True)
    config: dict[str, Any] = {key: {"name": name} for key, name in NAMES.items()}
    config |= {"stop": stop, "growth": {"until": 0.5}}
    (path / ".hydra/config.yaml").write_text(json.dumps(config))
    rows = [f"{10 * i},{i},1,{i},100,4,0.5,{reading}" for i, reading in enumerate(readings, 1)]
    header = "step,epoch,seconds,flops,parameters,widths,val_accuracy,trigger/evaluations_without_gain"
    (path / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    return RunFolder(path)


NAMES = {
    "dataset": "digits", "model": "mlp", "method": "tiny", "trigger": "plateau", "optimizer": "adamw", "schedule": "anneal",
    "logger": "csv",
}  # fmt: skip


@pytest.mark.parametrize(
    ("stop", "nearest"),
    [
        ({"epochs": 10}, 4),
        ({"epochs": 100, "steps": 60}, 2),  # of two budgets the one that ends first
        ({"epochs": None, "flops": 8}, 3),
    ],
    ids=str,
)
def test_only_what_was_read_while_growth_was_allowed_counts(
    stop: dict[str, float], nearest: float, tmp_path: Path
) -> None:
    folder = _watched(tmp_path / "r", stop, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    summary = {"thresholds": {"evaluations_without_gain": 9}, "ended": {"rule": "epochs", "value": 10}}
    config = _config(folder)
    assert config is not None
    assert [miss.nearest for miss in near_misses(folder, config, summary)] == [nearest]


def test_a_run_ends_with_two_commands_that_can_be_typed_and_its_folder(grow: Callable, tmp_path: Path) -> None:
    out = grow("train", "method=static", "subset=60", "stop.epochs=1", "device=cpu", "run_dir=r").out
    *_, first, second, _, folder = out.splitlines()
    assert (first, second, folder) == ("  grow report r", "  grow eval r", str(tmp_path / "r"))


@pytest.mark.slow
def test_a_sweep_says_which_job_it_trains_and_what_to_type_next(grow: Callable) -> None:
    basis = ("train", "-m", "subset=60", "stop.steps=2", "device=cpu", "method=static", "model=mlp")
    out = grow(*basis, "optimizer.lr=1e-7,0.05", "run_dir=s").out
    assert "job 1 of 2: optimizer.lr=1e-07\n" in out
    assert "job 2 of 2: optimizer.lr=0.05\n" in out
    assert "next: grow compare s\n      grow report s" in out
    assert "grow eval" not in out, "not after each job"
    assert [line.split()[-1] for line in out.splitlines() if "static, optimizer.lr=" in line], "the ranking"


def _finished(path: Path, score: float, seed: int, lr: float, **summary: object) -> RunFolder:
    (path / ".hydra").mkdir(parents=True)
    config = {"dataset": {"name": "digits"}, "method": {"name": "tiny"}, "seed": seed, "optimizer": {"lr": lr}}
    (path / ".hydra/config.yaml").write_text(json.dumps(config))
    told = {"status": "finished", "method": "tiny", "seed": seed, "val_accuracy": score, "parameters": 100 * seed}
    told = {key: value for key, value in (told | summary).items() if value is not None}
    (path / "summary.json").write_text(json.dumps(told))
    return RunFolder(path)


def test_a_ranking_is_of_means_over_seeds_by_validation_and_names_ways_as_compare_does(
    tmp_path: Path, terminal: Callable[[int], Console]
) -> None:
    runs = [
        _finished(tmp_path / "a", 0.9, 1, 0.1, test_accuracy=0.1),
        _finished(tmp_path / "b", 0.5, 2, 0.1, test_accuracy=0.1),
        _finished(tmp_path / "c", 0.8, 1, 0.2, test_accuracy=0.0),
        _finished(tmp_path / "d", 1.0, 2, 0.2, status="crashed"),
    ]
    ((first, second),) = ranking(runs).values()
    assert (first.label, first.cells) == ("tiny, optimizer.lr=0.2", ("0.8000", "1", "100", "tiny, optimizer.lr=0.2"))
    assert second.cells == ("0.7000 ± 0.2828", "2", "150", "tiny, optimizer.lr=0.1")
    shown = terminal(80)
    show_ranking(runs[:2])
    assert _text(shown) == "", "one way is no ranking"
    show_ranking(runs)
    assert _text(shown).splitlines()[-3].split() == ["1", "0.8000", "1", "100", "tiny,", "optimizer.lr=0.2"]


def test_a_score_that_falls_ranks_the_lowest_first(tmp_path: Path) -> None:
    bits = {"val_accuracy": None, "val_bits_per_byte": 2.0}
    low = _finished(tmp_path / "a", 0, 1, 0.1, **bits)
    high = _finished(tmp_path / "b", 0, 1, 0.2, **bits | {"val_bits_per_byte": 3.0})
    ((first, _),) = ranking([high, low]).values()
    assert first.label == "tiny, optimizer.lr=0.1"
