"""`grow compare` on fabricated folders: verdicts, power, stopping, time to a target, cautions, and many or broken folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import bench_compare
import numpy as np
import pandas as pd
import pytest
from bench_compare import write_run

from grow_cli.analysis.comparison import Comparison, compare
from grow_cli.analysis.reaching import costs_to
from grow_cli.analysis.runs import read_records


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples, and none of the pictures that other tests draw."""
    monkeypatch.setattr("grow_cli.analysis.statistics._RESAMPLES", 100)
    for picture in ("draw_anytime", "draw_fronts"):
        monkeypatch.setattr(f"grow_cli.analysis.comparing.{picture}", lambda comparison, output: output)


def _pair(root: Path, gain: float, seeds: int, noise: float = 0.001, **more: object) -> None:
    """Two ways, `a` better than `b` by so much."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        shared = 0.9 + 0.01 * rng.normal()
        for label, accuracy in (("a", shared + gain + noise * rng.normal()), ("b", shared)):
            own = {key: of(label, seed) if callable(of) else of for key, of in more.items()}
            write_run(root / f"{label}{seed}", dataset="d", label=label, seed=seed, accuracy=float(accuracy), **own)


def _compare(root: Path, **asked: object) -> Comparison:
    [comparison] = compare(read_records([root]), **asked)  # type: ignore[arg-type]
    return comparison


@pytest.mark.parametrize(
    ("gain", "within", "verdict"),
    [
        (0.01, None, "better"),
        (-0.01, None, "worse"),
        (0.0, None, "undecided"),
        (0.0, 0.2, "equal within 0.2 points"),
        (0.0, 0.01, "undecided"),
        (0.01, 0.2, "better"),
        (0.002, 0.5, "better, but within 0.5 points"),
    ],
)
def test_a_verdict_stands_beside_each_difference(
    gain: float, within: float | None, verdict: str, tmp_path: Path
) -> None:
    _pair(tmp_path, gain, 10)
    comparison = _compare(tmp_path, equal_within=within)
    [test] = comparison.tests_made
    if test.first.label == "b":
        verdict = {"better": "worse", "worse": "better"}.get(verdict, verdict.replace("better", "worse"))
    assert test.verdict == comparison.tests.iloc[0]["verdict"] == verdict


def test_the_power_line_says_how_many_seeds_delta_needs_or_what_the_seeds_find(tmp_path: Path) -> None:
    _pair(tmp_path, 0.0, 5)
    comparison = _compare(tmp_path, equal_within=0.1)
    spread = comparison.tests_made[0].found.deviation
    needs = bench_compare.fixed_seeds(0.001 / spread, 0.8)
    [power] = [note for note in comparison.notes if note.startswith("Power")]
    assert f"δ = 0.1 points needs {needs} seeds to be found" in power
    assert "the deviation is measured on 5 pairs: " in power
    [power] = [note for note in _compare(tmp_path).notes if note.startswith("Power")]
    assert "points with 5 seeds" in power


def test_too_few_seeds_for_the_rank_test_are_said_in_its_cell_and_above_the_tables(tmp_path: Path) -> None:
    _pair(tmp_path, 0.01, 5)
    comparison = _compare(tmp_path)
    assert comparison.tests.iloc[0]["rank: p (Holm)"] == "0.062 (0.062), never < 0.062"
    assert any(
        "with 5 pairs its p-value cannot be below 0.062" in c and "with 6 or more it can be below 0.05" in c
        for c in comparison.cautions
    )
    _pair(tmp_path / "six", 0.01, 6)
    more = _compare(tmp_path / "six")
    assert "never" not in more.tests.iloc[0]["rank: p (Holm)"]
    assert more.cautions == []


def test_other_threads_devices_and_data_are_said_above_the_tables(tmp_path: Path) -> None:
    def device(label: str, seed: int) -> str:
        return "cpu (2 threads)" if label == "a" else "cpu (1 thread)"

    def data(label: str, seed: int) -> dict[str, str]:
        return {"hash": "aaaaaaaabb" if label == "a" else "ccccccccdd", "test_hash": "eeeeeeeeff"}

    _pair(tmp_path, 0.01, 6, device=device, data=data)
    threads, fingerprints = sorted(_compare(tmp_path).cautions, reverse=True)
    assert "cpu (2 threads)" in threads
    assert "last digits" in threads
    assert "same data" in fingerprints
    assert "aaaaaaaa/eeeeeeee" in fingerprints


def test_differences_that_do_not_spread_have_no_verdict_and_say_so(tmp_path: Path) -> None:
    for seed in range(6):
        for label, accuracy in (("a", 0.9), ("b", 0.8)):
            write_run(tmp_path / f"{label}{seed}", dataset="d", label=label, seed=seed, accuracy=accuracy)
    comparison = _compare(tmp_path, equal_within=1)
    assert comparison.tests_made[0].verdict == "undecided"
    assert any("all differences are equal" in caution for caution in comparison.cautions)


def test_until_decided_says_with_its_last_line_and_exit_code_whether_one_may_stop(
    grow: Callable, tmp_path: Path
) -> None:
    _pair(tmp_path / "runs", 0.01, 12)
    outcome = grow("compare", "runs", "--until-decided")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].startswith("Decided after ")
    row = pd.read_csv(tmp_path / "runs/compare/compare_tests.csv").iloc[0]
    assert row["anytime_verdict"] in ("better", "worse")
    assert 6 <= row["decided_after"] <= 12
    assert row["evalue"] > 40
    for seed in range(5, 12):
        for label in "ab":
            shutil.rmtree(tmp_path / "runs" / f"{label}{seed}")
    outcome = grow("compare", "runs", "--until-decided")
    assert outcome.code == 3
    assert "Not decided: 1 pair is open on d; train seed=5 of every way" in " ".join(outcome.out.split())


def test_a_lower_score_is_better_where_the_task_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grow_cli import tasks

    _pair(tmp_path, 0.01, 10)
    upward = _compare(tmp_path, until_decided=True)
    kind = type(tasks.TASKS["classification"])
    monkeypatch.setitem(
        tasks.TASKS, "classification", kind("classification", "accuracy", "accuracy", percent=True, direction=-1)
    )
    downward = _compare(tmp_path, until_decided=True)
    assert {upward.tests_made[0].verdict, downward.tests_made[0].verdict} == {"better", "worse"}
    assert upward.decisions is not None
    assert downward.decisions is not None
    assert upward.decisions[0].verdict == upward.tests_made[0].verdict
    assert downward.decisions[0].verdict == downward.tests_made[0].verdict


def test_a_run_that_misses_the_target_is_never_there_and_later_than_all_others(tmp_path: Path) -> None:
    """`a` reaches it in every run, `b` in two of seven."""
    for seed in range(7):
        write_run(tmp_path / f"a{seed}", dataset="d", label="a", seed=seed, accuracy=0.95)
        write_run(tmp_path / f"b{seed}", dataset="d", label="b", seed=seed, accuracy=0.85 if seed > 1 else 0.95)
    comparison = _compare(tmp_path, to=0.9)
    numbers = comparison.numbers.set_index("way")
    assert numbers["misses"].to_dict() == {"a": 0, "b": 5}
    assert numbers.loc["a", "to_flops_median"] < 1e9
    assert np.isinf(numbers.loc["b", "to_flops_median"]), "the median of runs of which most missed it"
    assert "never" in comparison.notes[-1] or "missed the target" in comparison.notes[-1]
    [sooner] = comparison.sooner
    first = sooner.test.first.label
    # the two that both reached tie at a ratio of 1 and are dropped: five of five the same way, one-sided
    assert sooner.pvalues["flops"] == pytest.approx(2.0**-5 if first == "a" else 1.0)
    assert sooner.holm["flops"] == pytest.approx(min(1.0, 3 * sooner.pvalues["flops"]))
    record = next(way.records[-1] for way in comparison.ways if way.label == "b")
    assert set(costs_to(record, 0.9).values()) == {float("inf")}


def test_folders_with_nan_missing_columns_or_of_another_version_are_named_and_left_out(
    grow: Callable, tmp_path: Path
) -> None:
    _pair(tmp_path / "runs", 0.01, 3)
    runs = tmp_path / "runs"

    def edit(name: str, change: Callable[[dict], object]) -> None:
        write_run(runs / name, dataset="d", label="c", seed=len(name), accuracy=0.5)
        summary = json.loads((runs / name / "summary.json").read_text())
        change(summary)
        (runs / name / "summary.json").write_text(json.dumps(summary))

    edit("nan", lambda s: s.update(test_accuracy=float("nan")))
    edit("older", lambda s: s.pop("flops_per_sample"))
    edit("strange-version", lambda s: s.update(architecture="mlp"))
    for name, metrics in (
        ("columns", "step,epoch\n1,1\n"),
        ("cells", "step,epoch,flops,seconds,parameters,val_accuracy\n1,1,nan,1,1,1\n"),
    ):
        edit(name, lambda s: None)
        (runs / name / "metrics.csv").write_text(metrics)
    outcome = grow("compare", "runs", "--equal-within", "1", "--until-decided", "--to", "0.5")
    assert outcome.code in (0, 3), outcome.err
    told = " ".join(outcome.err.split())
    for name in ("nan", "older", "strange-version", "columns", "cells"):
        assert f"runs/{name} is left out" in told
    assert "Traceback" not in outcome.out + outcome.err


def test_many_folders_are_each_read_once_and_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grow_cli.analysis import runs

    reads: list[Path] = []
    read = runs.read_metrics
    monkeypatch.setattr(
        runs, "read_metrics", lambda folder, needed: (reads.append(folder.path), read(folder, needed))[1]
    )
    bench_compare.fabricate(tmp_path, runs=60, seeds=5, datasets=2)
    records = read_records([tmp_path])
    comparisons = compare(records, equal_within=0.1, until_decided=True, to=0.7)
    assert len(reads) == len(set(reads)) == 60
    assert [len(c.tests_made) for c in comparisons] == [15, 15]
    kept = max(int(r.metrics.memory_usage(deep=True).sum()) for r in records)
    assert kept < 100_000, "a thousand of them fit 0.1 GB"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--equal-within", "0.1", "--until-decided", "--over-datasets", "--to", "0.7")]
)
def test_a_thousand_folders_are_compared_in_a_minute_and_a_gigabyte(options: tuple[str, ...]) -> None:
    seconds, gigabytes = bench_compare.measure(1000, 10, 4, *options)
    assert seconds < 60
    assert gigabytes < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--equal-within", "0"], "--equal-within 0: a difference above 0"),
        (["--equal-within", "nan"], "--equal-within nan: a difference above 0"),
        (["--over-datasets"], "--over-datasets needs finished runs on two datasets"),
    ],
)
def test_mistakes_are_a_sentence(arguments: list[str], words: str, grow: Callable, tmp_path: Path) -> None:
    _pair(tmp_path / "runs", 0.01, 2)
    outcome = grow("compare", "runs", *arguments)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())
