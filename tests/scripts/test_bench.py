"""The benchmarks' configurations are valid, and their pages hold what was measured."""

from __future__ import annotations

import json
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


def _ways() -> list[tuple[str, str]]:
    return [(name, way) for name, of in import_module("bench").BENCHES.items() for way in of.ways]


@pytest.mark.parametrize(("name", "way"), _ways())
def test_every_way_of_every_benchmark_can_be_composed(name: str, way: str, bench: ModuleType) -> None:
    from grow_cli.commands.train import compose

    of = bench.BENCHES[name]
    config = compose([*of.ways[way], *of.recipe, f"label='{way}'"])
    for group in GROUP_KEYS:
        getattr(config, group).check_run(config)
    if of.cifar:
        assert config.dataset.name == "cifar10"
    images = compose([*of.ways[way], *of.recipe, "dataset=image_folder", "dataset.path=x"]) if of.cifar else config
    assert images.dataset.name == ("image_folder" if of.cifar else "python" if "python" in name else "mnist")
    assert set(of.controls) <= set(of.ways)


def test_every_benchmark_is_on_a_page_that_the_makefile_makes(bench: ModuleType) -> None:
    on_pages = [name for names in bench.PAGES.values() for name in names]
    assert sorted(on_pages) == sorted(bench.BENCHES)
    makefile = (SCRIPTS.parent / "Makefile").read_text()
    assert "bench.py mnist" in makefile
    assert "bench.py closest" in makefile
    assert "bench.py cifar_$(BUDGET)" in makefile
    assert "bench.py alether" in makefile


def test_steps_to_recover_are_counted_from_the_event_to_the_first_loss_as_low(bench: ModuleType) -> None:
    metrics = pd.DataFrame({"step": [10, 20, 30, 40], "val_loss": [1.0, 1.2, 1.0, 0.9]})
    event = GrowthEvent(step=10, loss_before=1.0, loss_after=1.5, loss_settled=1.1, function_change_relative=0.2)
    found = bench._event(event, metrics)
    assert found["recover"] == 20
    assert (found["jump"], found["settled"]) == pytest.approx((0.5, 0.1))
    never = bench._event(replace(event, step=40), metrics)
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


@pytest.mark.slow
def test_a_page_holds_the_comparison_and_the_events(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = bench.Bench("A trial", {"copy": ["method=copy", "method.warmup_steps=5"], "static": ["method=static"]})
    recipe = ["trigger=every", "trigger.every=2", "stop.epochs=5", "subset=200"]
    small = bench.Bench("A trial", small.ways, recipe, {"copy": ("static-flops",)}, 2, note="A note.", events=True)
    monkeypatch.setattr(bench, "BENCHES", {"trial": small})
    monkeypatch.setattr(bench, "PAGES", {"trial": ["trial"]})
    monkeypatch.setattr(bench, "folder", lambda name: tmp_path / "runs" / name)
    for seed in range(2):
        for way in small.ways:
            bench.run_once("trial", way, seed, [])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("metrics.csv")}
    assert len(before) == 6
    bench.run_once("trial", "copy", 0, [])
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("metrics.csv")}, "used again"
    records = read_records([tmp_path / "runs"])
    assert {r.label for r in records} == {"copy", "static", "copy · static-flops"}
    table = bench.events(records)
    assert "| copy | 2 |" in table, "an event of each seed"
    assert "static" not in table
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "images").mkdir()
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(common, "ROOT", tmp_path)
    page = bench.report("trial", None, "the command").read_text()
    assert "Made by `the command`" in page
    assert "copy · static-flops" in page
    assert (tmp_path / "docs" / "images" / "trial_fronts.png").exists()
    summary = json.loads((tmp_path / "runs" / "trial" / "copy" / "0" / "summary.json").read_text())
    assert summary["label"] == "copy"
