"""The benchmarks' configurations are valid, and their pages hold what was measured."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import common
import pandas as pd
import pytest

from grow_cli.analysis.runs import read_records
from grow_cli.config import GROUP_KEYS
from grow_cli.records.events import GrowthEvent

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


bench = pytest.fixture(scope="module")(lambda: import_module("bench"))
benches = pytest.fixture(scope="module")(lambda: import_module("benches"))
pages = pytest.fixture(scope="module")(lambda: import_module("bench_page"))
tuned = pytest.fixture(scope="module")(lambda: import_module("tuned"))


def _ways() -> list[tuple[str, str]]:
    return [(name, way) for name, of in import_module("benches").BENCHES.items() for way in of.ways]


@pytest.mark.parametrize(("name", "way"), _ways())
def test_every_way_of_every_benchmark_can_be_composed(name: str, way: str, benches: ModuleType) -> None:
    from grow_cli.commands.train import compose

    of = benches.BENCHES[name]
    config = compose([*of.ways[way], *of.recipe, f"label='{way}'"])
    for group in GROUP_KEYS:
        getattr(config, group).check_run(config)
    if of.cifar:
        assert config.dataset.name == "cifar10"
    images = compose([*of.ways[way], *of.recipe, "dataset=image_folder", "dataset.path=x"]) if of.cifar else config
    assert images.dataset.name == ("image_folder" if of.cifar else "python" if "python" in name else "mnist")
    assert set(of.controls) <= set(of.ways)


def test_every_benchmark_is_on_a_page_that_the_makefile_makes(benches: ModuleType) -> None:
    on_pages = [name for names in benches.PAGES.values() for name in names]
    assert sorted(on_pages) == sorted(benches.BENCHES)
    assert set(benches.INTRODUCTIONS) <= set(benches.PAGES)
    makefile = (SCRIPTS.parent / "Makefile").read_text()
    assert "bench.py mnist" in makefile
    assert "bench.py closest" in makefile
    assert "bench.py cifar_$(BUDGET)" in makefile
    assert "bench.py alether" in makefile


def _quoted(text: str) -> list[str]:
    return text.split("`")[1::2]


@pytest.mark.parametrize("page", import_module("benches").PAGES)
def test_each_way_of_a_page_stands_on_it_with_all_its_overrides(
    page: str, benches: ModuleType, pages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "replaced", lambda own, line: "–")
    heading, table, note = pages.command_lines(page, tuned_rates=False)
    assert heading.startswith("# ")
    shared = {override for quoted in _quoted(note) for override in quoted.split()}
    rows = [_quoted(row)[0].split() for row in table.splitlines()[2:]]
    ways = [of.overrides(way) for of in (benches.BENCHES[name] for name in benches.PAGES[page]) for way in of.ways]
    assert [{*row, *shared} for row in rows] == [{*overrides, *shared} for overrides in ways]
    assert shared - {"threads=1"} <= set.intersection(*map(set, ways))
    labels = [row.split(" | ")[0] for row in table.splitlines()]
    assert len(set(labels)) == len(labels), "two rows of one name"


def test_the_only_way_of_a_page_has_all_overrides_in_its_row(
    benches: ModuleType, pages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benches.BENCHES, "one", benches.Bench("One", {"copy": ["method=copy"]}, ["subset=200"]))
    monkeypatch.setitem(benches.PAGES, "one", ["one"])
    _, table, note = pages.command_lines("one", tuned_rates=True)
    assert table.splitlines()[2] == "| copy | `method=copy subset=200` | – |"
    assert "besides: `threads=1`, `optimizer.lr` as chosen under *Tuning*, and its seed" in note


def test_a_rate_that_the_search_replaces_is_not_shown_as_the_runs(pages: ModuleType) -> None:
    _, searched, _ = pages.command_lines("cifar_cpu", tuned_rates=True)
    assert "optimizer.lr" not in searched
    assert "model.dropout=0 optimizer.weight_decay=5e-4" in searched


def test_a_way_is_shown_beside_what_its_experiment_has_where_it_has_others(pages: ModuleType) -> None:
    own = ["experiment=tiny_mnist", "method=gradmax", "stop.epochs=10", "model.dropout=0.1", "subset=null"]
    assert pages.replaced(own, own) == "`method=tiny stop.epochs=25`"
    assert pages.replaced(own[:1], own[:1]) == "–"
    assert pages.replaced(own[1:], own[1:]) == "–", "no experiment"


def test_steps_to_recover_are_counted_from_the_event_to_the_first_loss_as_low(pages: ModuleType) -> None:
    metrics = pd.DataFrame({"step": [10, 20, 30, 40], "val_loss": [1.0, 1.2, 1.0, 0.9]})
    event = GrowthEvent(step=10, loss_before=1.0, loss_after=1.5, loss_settled=1.1, function_change_relative=0.2)
    found = pages._event(event, metrics)
    assert found["recover"] == 20
    assert (found["jump"], found["settled"]) == pytest.approx((0.5, 0.1))
    never = pages._event(replace(event, step=40), metrics)
    assert never["recover"] != never["recover"], "no evaluation comes after it"


def test_a_page_that_is_made_again_keeps_its_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    page = tmp_path / "docs" / "results" / "page.md"
    page.parent.mkdir(parents=True)
    common.write_page("page", "first")
    assert page.read_text() == "first\n"
    page.write_text(f"first\n\n{common.NOTES}\n\nA note.\n")
    for _ in range(2):
        common.write_page("page", "second\n")
        assert page.read_text() == f"second\n\n{common.NOTES}\n\nA note.\n"


def test_of_three_rates_the_best_by_validation_is_chosen_and_of_equal_ones_the_smaller(tuned: ModuleType) -> None:
    inside = tuned.Search({0.01: 0.9, 0.02: 0.95, 0.005: 0.8}, 3e9, 1.0)
    assert inside.best == 0.02
    assert tuned.Search({0.02: 0.9, 0.01: 0.9}, 3e9, 1.0).best == 0.01
    middle = tuned.Search({0.005: 0.8, 0.01: 0.9, 0.02: 0.85}, 3e9, 1.0)
    assert tuned.at_the_edge({"a": (middle, inside)}).endswith("beyond: a's final net.")
    assert tuned.at_the_edge({"a": (middle, None)}) == ""
    assert "| a | 80.00 | **90.00** | 85.00 | 0.01 | 3 G | 1 |" in tuned.table({"a": (middle, None)})


def test_notes_that_several_sections_share_come_once_and_at_the_end(pages: ModuleType) -> None:
    sections = [["# A", "| a |", "Own.", "Shared."], ["# B", "| a |", "Shared."]]
    assert pages.together(sections) == ["# A", "| a |", "Own.", "# B", "| a |", "# Of all tables", "Shared."]


def _small(benches: ModuleType, pages: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, **of: object) -> None:
    """A benchmark of seconds called `trial`, whose runs and page are in a folder of the test's."""
    ways = {"copy": ["method=copy", "method.warmup_steps=5"], "static": ["method=static"]}
    ways = {way: ways[way] for way in ("copy", "static") if way == "copy" or not of.get("within")}
    recipe = ["trigger=every", "trigger.every=2", "stop.epochs=5", "subset=200"]
    if of.get("within"):  # a step of the largest size must cost less than a hundredth of the run
        recipe += ["subset=800", "batch_size=8"]
    small = benches.Bench("A trial", ways, recipe, {"copy": ("static-flops",)}, 2, note="A note.", events=True)
    monkeypatch.setitem(benches.BENCHES, "trial", replace(small, **of))
    monkeypatch.setitem(benches.PAGES, "trial", ["trial"])
    for module in (benches, pages, common):
        monkeypatch.setattr(module, "ROOT", folder)
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))
    monkeypatch.setattr(common, "environment", lambda: os.environ | {"OMP_NUM_THREADS": "1"})
    (folder / "docs" / "results").mkdir(parents=True)
    (folder / "docs" / "images").mkdir()


@pytest.mark.slow
def test_a_page_holds_the_comparison_and_the_events(
    bench: ModuleType, benches: ModuleType, pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small(benches, pages, tmp_path, monkeypatch)
    runs = tmp_path / "outputs" / "bench" / "trial"
    for seed in range(2):
        for way in ("copy", "static"):
            bench.run_once("trial", way, seed, [], {})
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("metrics.csv")}
    assert len(before) == 6
    bench.run_once("trial", "copy", 0, [], {})
    assert before == {p: p.stat().st_mtime_ns for p in runs.rglob("metrics.csv")}, "used again"
    records = read_records([runs])
    assert {r.label for r in records} == {"copy", "static", "copy · static-flops"}
    table = pages.events(records)
    assert "| copy | 2 |" in table, "an event of each seed"
    assert "static" not in table
    page = pages.report("trial", None, "the command", {}).read_text()
    assert "Made by `the command`" in page
    assert "copy · static-flops" in page
    assert (tmp_path / "docs" / "images" / "trial_fronts.png").exists()
    summary = json.loads((runs / "copy" / "0" / "summary.json").read_text())
    assert summary["label"] == "copy"


@pytest.mark.slow
def test_a_way_with_a_fixed_difference_is_tuned_alike_and_held_against_the_best_static_size(
    bench: ModuleType,
    benches: ModuleType,
    pages: ModuleType,
    tuned: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _small(benches, pages, tmp_path, monkeypatch, within=2.0)
    monkeypatch.setattr(tuned, "ROOT", tmp_path)
    searches = bench.tuning("trial", [])
    own, fixed = searches["copy"]
    assert len(own.scores) == len(fixed.scores) == 3
    assert own.flops == pytest.approx(fixed.flops, rel=0.05), "the same budget"
    other = next(rate for rate in sorted(fixed.scores) if rate != own.best)
    searches = {"copy": (own, replace(fixed, scores={other: 1.0}))}  # another rate, so that it is a control of its own
    for seed in range(2):
        bench.run_once("trial", "copy", seed, [], searches)
    bench.ladders("trial", None)
    run = tmp_path / "outputs" / "bench" / "trial" / "copy" / "0"
    rates = {
        path.name: json.loads((path / "summary.json").read_text())
        for path in (run / "controls").iterdir()
        if path.name[0] != "."
    }
    assert set(rates) == {"static-flops", "static-best", tuned.OWN_RATE}
    page = pages.report("trial", None, "the command", searches).read_text()
    row = next(line for line in page.splitlines() if line.startswith("| copy | 2 |"))
    assert row.count("**") == 2 * 3, "a word for each control"
    assert "TOST" in page
    assert "All ways were tuned alike" in page
    assert "## Cost of the ladders" in page
