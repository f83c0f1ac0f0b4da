"""Several datasets at once: interquartile means, improvement, profiles and their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bench_compare import write_run
from scipy import stats

from grow_cli.analysis import across
from grow_cli.analysis.comparison import compare
from grow_cli.analysis.over_datasets import over_datasets
from grow_cli.analysis.runs import read_records
from grow_cli.errors import UserError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples, and none of the pictures that other tests draw."""
    monkeypatch.setattr("grow_cli.analysis.statistics._RESAMPLES", 100)
    for picture in ("draw_anytime", "draw_fronts"):
        monkeypatch.setattr(f"grow_cli.analysis.comparing.{picture}", lambda comparison, output: output)


def test_the_interquartile_mean_is_scipys_and_takes_parts_of_runs_at_its_edge() -> None:
    x = np.random.default_rng(0).normal(size=(3, 16))
    assert across.interquartile_mean(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=1))
    # of five runs the middle three: the outer two of them with 3/4 of their weight
    assert across.interquartile_mean(np.array([9.0, 1.0, 2.0, 4.0, 0.0])) == pytest.approx(
        (0.75 * 1 + 2 + 0.75 * 4) / 2.5
    )


def test_improvement_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(1)
    a, b = np.round(rng.normal(0.5, 1, 9), 1), np.round(rng.normal(size=7), 1)
    expected = stats.mannwhitneyu(a, b).statistic / (9 * 7)
    assert across.probability_of_improvement(a, b) == pytest.approx(expected)
    assert across.improvement([a, a], [b, b]).value == pytest.approx(expected)
    assert across.improvement([a], [a]).value == 0.5


def test_a_profile_is_the_fraction_of_runs_above_and_datasets_weigh_alike() -> None:
    scores = [np.array([0.1, 0.9]), np.array([0.5, 0.5, 0.5, 0.5])]
    fraction, low, high = across.profile_band(scores, np.array([0.0, 0.3, 0.6, 0.9]))
    assert fraction.tolist() == [1.0, 0.75, 0.25, 0.0]
    assert np.all((low <= fraction) & (fraction <= high))


def test_bootstraps_stay_within_datasets_and_hold_the_truth_as_often_as_they_say() -> None:
    """Two datasets far apart: drawing over both at once would give intervals as wide as their distance."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(150):
        of = across.aggregate([rng.normal(0, 1, 20), rng.normal(100, 1, 20)], lambda x: x.mean(-1))
        held.append(of.low <= 50 <= of.high)
        assert of.high - of.low < 2
    assert 0.86 <= np.mean(held) <= 0.99


def _two_datasets(root: Path, seeds: int = 6) -> None:
    rng = np.random.default_rng(3)
    for number, dataset in enumerate(("digits", "moons")):
        for label, gain in (("good", 0.05), ("poor", 0.0)):
            for seed in range(seeds):
                accuracy = float(0.7 + 0.1 * number + gain + 0.005 * rng.normal())
                write_run(root / f"{dataset}-{label}{seed}", dataset=dataset, label=label, seed=seed, accuracy=accuracy)


def test_the_ways_that_all_datasets_share_are_compared_over_them(tmp_path: Path) -> None:
    _two_datasets(tmp_path)
    write_run(tmp_path / "extra", dataset="moons", label="only here", seed=0, accuracy=0.5)
    [over] = over_datasets(compare(read_records([tmp_path])))
    assert over.datasets == ["digits", "moons"]
    assert over.left_out == ["only here"]
    ways = over.ways.set_index("way")
    assert ways.loc["good", "iqm"] - ways.loc["poor", "iqm"] == pytest.approx(0.05, abs=0.01)
    assert ways.loc["good", "low"] < ways.loc["good", "iqm"] < ways.loc["good", "high"]
    [pair] = over.pairs.to_dict("records")
    assert (pair["first"], pair["improvement"], pair["rank_pvalue"]) == ("good", 1.0, 0.5)
    assert "never < 0.5" in over.pairs_table.iloc[0]["rank over datasets: p (Holm)"], "two datasets are no sample"


def test_one_dataset_and_ways_without_common_names_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0", dataset="moons", label="x", seed=0, accuracy=0.5)
    with pytest.raises(UserError, match="needs finished runs on two datasets"):
        over_datasets(compare(read_records([tmp_path])))
    write_run(tmp_path / "b" / "0", dataset="digits", label="y", seed=0, accuracy=0.5)
    with pytest.raises(UserError, match=r"no way was trained on each of moons, digits .*one label=NAME"):
        over_datasets(compare(read_records([tmp_path])))


def test_the_command_writes_what_was_found_over_datasets(grow, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _two_datasets(tmp_path / "runs", seeds=3)
    outcome = grow("compare", "runs", "--over-datasets")
    assert outcome.code == 0, outcome.err
    assert "Over 2 datasets (digits, moons)" in outcome.out
    folder = tmp_path / "runs" / "compare"
    assert (folder / "profiles.png").stat().st_size > 10_000
    assert pd.read_csv(folder / "over_datasets_pairs.csv")["improvement"].tolist() == [1.0]
    assert "| good | 6 |" in (folder / "over_datasets.md").read_text()
