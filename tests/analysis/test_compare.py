"""`grow compare` on run folders written by hand: what is grouped, paired, tested and said."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from grow_cli.analysis.comparing import _fitting, _table
from grow_cli.analysis.comparison import compare
from grow_cli.analysis.report.sweep import _runs
from grow_cli.analysis.runs import read_records
from grow_cli.errors import UserError


def write_run(folder: Path, *, method: str = "tiny", seed: int = 0, accuracy: float = 0.9, **more: Any) -> Path:
    """A finished run of three evaluations."""
    (folder / ".hydra").mkdir(parents=True)
    dataset, trigger, lr = more.get("dataset", "mnist"), more.get("trigger", "every"), more.get("lr", 0.01)
    config = {
        "dataset": {"name": dataset, "path": more.get("path"), "validation": more.get("validation", 0.1)},
        "method": {"name": method},
        "trigger": {"name": trigger},
        "model": {"name": more.get("model", "mlp"), "hidden": more.get("hidden", [4])},
        "optimizer": {"name": more.get("optimizer", "adam"), "lr": lr},
        "growth": {"until": more.get("until", 0.5)},
        "seed": seed,
        "run_dir": str(folder),
        "subset": more.get("subset"),
    }
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))
    parameters, flops = more.get("parameters", 1000), more.get("flops", 1e9)
    summary = {
        "status": more.get("status", "finished"),
        "dataset": dataset,
        "model": more.get("model", "mlp"),
        "method": method,
        "trigger": trigger,
        "seed": seed,
        "label": more.get("label"),
        "control": more.get("control"),
        "test_accuracy": accuracy,
        "val_accuracy": accuracy - 0.01,
        "architecture": {"outputs": 10},
        "parameters": parameters,
        "flops_per_sample": 2 * parameters,
        "training_flops": flops,
        "growth_flops": 0,
        "seconds": 3.0,
        "growth_seconds": 1.0,
        "steps": 30,
        "events": 2,
        "undone": more.get("undone", 0),
        "device": more.get("device", "cpu (1 thread)"),
        "widths": "4",
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    pd.DataFrame(
        {
            "step": [10, 20, 30],
            "epoch": [1.0, 2.0, 3.0],
            "flops": [flops / 4, flops / 2, flops],
            "seconds": [1.0, 2.0, 3.0],
            "parameters": [parameters // 2, parameters, parameters],
            "val_accuracy": [0.5, 0.8, accuracy - 0.01],
        }
    ).to_csv(folder / "metrics.csv", index=False)
    return folder


def _sweep(root: Path, effect: float, seeds: int = 6) -> None:
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        shared = 0.9 + 0.01 * rng.normal()
        for method, gain in (("tiny", effect), ("static", 0.0)):
            accuracy = shared + gain + 0.001 * rng.normal()
            write_run(root / f"{method}{seed}", method=method, seed=seed, accuracy=accuracy)


def test_an_effect_smaller_than_the_seeds_spread_is_found_by_pairing(tmp_path: Path) -> None:
    _sweep(tmp_path, effect=0.005)
    [comparison] = compare(read_records([tmp_path]))
    [test] = comparison.tests_made
    sign = 1 if test.first.label == "tiny" else -1
    assert sign * test.found.difference == pytest.approx(0.005, abs=0.002)
    assert test.found.t_pvalue < 0.01
    assert test.found.wilcoxon_pvalue == pytest.approx(2 / 2**6)


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    _sweep(tmp_path, effect=0.0)
    [comparison] = compare(read_records([tmp_path]))
    assert comparison.tests_made[0].found.t_pvalue > 0.05


def test_unequal_seeds_are_paired_where_they_are_shared_and_said(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path / f"a{seed}", method="tiny", seed=seed, accuracy=0.9 + 0.001 * seed)
    for seed in (2, 3, 5):
        write_run(tmp_path / f"b{seed}", method="static", seed=seed, accuracy=0.8 + 0.002 * seed)
    [comparison] = compare(read_records([tmp_path]))
    assert comparison.tests_made[0].found.n == 2
    assert list(comparison.numbers["seeds"]) == [4, 3]
    assert any("Not all ways have the same seeds" in note and "static: 2, 3, 5" in note for note in comparison.notes)


def test_one_shared_seed_makes_no_test(tmp_path: Path) -> None:
    write_run(tmp_path / "a", method="tiny", seed=0)
    write_run(tmp_path / "b", method="static", seed=1)
    [comparison] = compare(read_records([tmp_path]))
    assert comparison.tests_made == []
    assert len(comparison.tests) == 0
    assert comparison.table.iloc[0].iloc[3] == "90.00", "one run has no deviation"


def test_two_runs_of_a_way_with_one_seed_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    with pytest.raises(UserError, match="two runs with seed 0"):
        compare(read_records([tmp_path]))


def test_the_cost_to_a_score_is_that_of_the_first_evaluation_that_reached_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a0", seed=0, accuracy=0.95, flops=1e9)
    write_run(tmp_path / "a1", seed=1, accuracy=0.95, flops=3e9)
    write_run(tmp_path / "b0", seed=0, accuracy=0.85, method="static")
    records = read_records([tmp_path])
    [comparison] = compare(records, to=0.8)
    n = comparison.numbers.set_index("way")
    assert n.loc["tiny", ["reached", "to_step", "to_flops", "to_seconds", "to_parameters"]].tolist() == [
        2,
        20,
        1e9,
        2,
        1000,
    ]
    assert n.loc["tiny", "to_flops_sd"] == pytest.approx(0.5e9 * 2**0.5)
    [later] = compare(records, to=0.9)
    shown = later.reaching.set_index("way")
    assert shown.loc["tiny"].tolist() == ["2 of 2", "30 ± 0", "2 G ± 1.41 G", "3.0 ± 0.0", "1,000 ± 0"]
    assert shown.loc["static"].tolist() == ["0 of 1", "–", "–", "–", "–"]
    assert not len(compare(records)[0].reaching)
    with pytest.raises(UserError, match="--to 97: a validation score"):
        compare(records, to=97)


def test_the_cost_to_a_score_does_not_depend_on_how_often_other_runs_are_measured(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0, accuracy=0.95)
    rare = write_run(tmp_path / "b", seed=0, accuracy=0.95, method="static")
    metrics = pd.read_csv(rare / "metrics.csv")
    metrics.tail(1).to_csv(rare / "metrics.csv", index=False)
    [comparison] = compare(read_records([tmp_path]), to=0.7)
    assert comparison.numbers.set_index("way")["to_step"].to_dict() == {"tiny": 20, "static": 30}


def test_runs_without_a_validation_split_are_not_compared_with_others(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", seed=seed)
        write_run(tmp_path / f"b{seed}", seed=seed, validation=0)
    comparisons = compare(read_records([tmp_path]))
    assert [c.title for c in comparisons] == ["mnist", "mnist, validation=0"]
    assert [any("Nothing was held out" in note for note in c.notes) for c in comparisons] == [False, True]


def test_other_cuts_of_the_data_are_said(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", seed=seed)
        write_run(tmp_path / f"b{seed}", seed=seed, method="static", validation=0.2)
    [comparison] = compare(read_records([tmp_path]))
    assert any("do not share one split" in note for note in comparison.notes)
    assert not any("share one split into training, validation and test" in note for note in comparison.notes)


def test_runs_that_differ_in_a_key_are_ways_of_their_own_named_by_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        for lr in (0.01, 0.1):
            write_run(tmp_path / f"{lr}-{seed}", lr=lr, seed=seed)
    [comparison] = compare(read_records([tmp_path]))
    assert sorted(way.label for way in comparison.ways) == ["tiny, optimizer.lr=0.01", "tiny, optimizer.lr=0.1"]


def test_the_same_method_with_another_trigger_is_a_way_of_its_own_with_curves_of_its_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"e{seed}", seed=seed, accuracy=0.95)
        write_run(tmp_path / f"p{seed}", seed=seed, accuracy=0.6, trigger="plateau", flops=1e8)
    [comparison] = compare(read_records([tmp_path]))
    n = comparison.numbers.set_index("way")
    assert set(n.index) == {"tiny, trigger=every", "tiny, trigger=plateau"}
    assert n.loc["tiny, trigger=every", "anytime_flops"] != n.loc["tiny, trigger=plateau", "anytime_flops"]


def test_a_model_is_told_even_where_the_trigger_differs_too(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"e{seed}", seed=seed)
        write_run(tmp_path / f"p{seed}", seed=seed, trigger="plateau", model="cnn")
    [comparison] = compare(read_records([tmp_path]))
    assert sorted(way.label for way in comparison.ways) == [
        "tiny, trigger=every, model=mlp",
        "tiny, trigger=plateau, model=cnn",
    ]


def test_keys_that_differ_with_the_model_are_named_too(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"m{seed}", seed=seed, until=0.5)
        write_run(tmp_path / f"c{seed}", seed=seed, model="cnn", until=0.25)
    [comparison] = compare(read_records([tmp_path]))
    assert sorted(way.label for way in comparison.ways) == [
        "tiny, model=cnn, growth.until=0.25",
        "tiny, model=mlp, growth.until=0.5",
    ]


def test_models_of_another_kind_are_said_and_their_sizes_are_not(tmp_path: Path) -> None:
    write_run(tmp_path / "a", method="tiny", hidden=[1])
    write_run(tmp_path / "b", method="static", hidden=[4])
    [alike] = compare(read_records([tmp_path]))
    assert "recipes differ" not in " ".join(alike.notes)
    write_run(tmp_path / "c", method="copy", model="vit")
    [apart] = compare(read_records([tmp_path]))
    assert "The recipes differ: model.name is mlp for tiny, mlp for static, vit for copy" in " ".join(apart.notes)


def test_events_that_were_taken_back_are_counted_and_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", undone=1)
    [comparison] = compare(read_records([tmp_path]))
    assert comparison.table["events"].tolist() == ["2.0"], "as in summary.json"
    assert "Some growth events were taken back (tiny: 1.0 of 2.0)." in comparison.notes
    write_run(tmp_path / "b", seed=1)
    write_run(tmp_path / "c", method="fold")
    [comparison] = compare(read_records([tmp_path]))
    assert "(tiny: 0.5 of 2.0)" in comparison.notes[0]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_terminal_is_too_narrow_for_names_and_figures(width: int, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path / f"a{seed}", seed=seed, label="a way with a name of some length", parameters=11_234_567)
        write_run(tmp_path / f"b{seed}", seed=seed, label="another way", accuracy=0.8 + seed / 100)
    [comparison] = compare(read_records([tmp_path]))
    for frame in (comparison.table, comparison.tests, comparison.anytime):
        parts = _fitting(frame, width)
        assert {part.columns[0] for part in parts} == {frame.columns[0]}
        assert [name for part in parts for name in part.columns[1:]] == list(frame.columns[1:])
        for part in parts:
            console = Console(width=width, file=io.StringIO(), record=True)
            console.print(_table("", part))
            shown = console.export_text()
            for cell in part.iloc[:, 1:].to_numpy().flatten():
                assert cell in shown, "uncut"
            assert "anot" in shown, "the name stands there, folded if need be"
        if width == 200:
            assert len(parts) == 1


def test_a_grid_over_a_group_and_its_key_is_a_way_for_each_pair(tmp_path: Path) -> None:
    for seed in (0, 1):
        for optimizer in ("adam", "sgd"):
            for lr in (0.01, 0.1):
                write_run(tmp_path / f"{optimizer}{lr}{seed}", seed=seed, optimizer=optimizer, lr=lr)
    [comparison] = compare(read_records([tmp_path]))
    assert sorted(way.label for way in comparison.ways) == [
        f"tiny, optimizer={o}, optimizer.lr={lr}" for o in ("adam", "sgd") for lr in (0.01, 0.1)
    ]


def test_an_optimizer_with_a_rate_of_its_own_is_named_without_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", optimizer="adam", lr=0.01)
    write_run(tmp_path / "b", optimizer="sgd", lr=0.1)
    [comparison] = compare(read_records([tmp_path]))
    assert sorted(way.label for way in comparison.ways) == ["tiny, optimizer=adam", "tiny, optimizer=sgd"]


def test_folders_of_images_are_datasets_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dataset="image_folder", path="/somewhere/cats")
    write_run(tmp_path / "b", dataset="image_folder", path="/elsewhere/dogs")
    assert sorted(c.title for c in compare(read_records([tmp_path]))) == ["image_folder cats", "image_folder dogs"]


def test_more_looks_at_the_same_curve_are_worth_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, looks in (("often", 60), ("seldom", 6)):
        run = write_run(tmp_path / name, label=name)
        step = np.arange(1, looks + 1) * (60 // looks)
        noise = rng.normal(scale=0.05, size=60)[step - 1]
        frame = {"step": step, "epoch": step / 10, "flops": step, "seconds": step, "parameters": 1000}
        pd.DataFrame({**frame, "val_accuracy": 0.5 + noise}).to_csv(run / "metrics.csv", index=False)
    [comparison] = compare(read_records([tmp_path]))
    assert [len(xs) for runs in comparison.curves["steps"].values() for xs, _ in runs] == [7, 7], "0 and six looks each"


def test_runs_without_their_numbers_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "good")
    summary = json.loads((write_run(tmp_path / "old") / "summary.json").read_text())
    del summary["training_flops"]
    (tmp_path / "old" / "summary.json").write_text(json.dumps(summary))
    broken = write_run(tmp_path / "nan", accuracy=float("nan"))
    (broken / "summary.json").write_text((broken / "summary.json").read_text().replace("NaN", "null"))
    empty = write_run(tmp_path / "empty")
    (empty / "metrics.csv").write_text("step,epoch\n")
    assert [r.folder.path.name for r in read_records([tmp_path])] == ["good"]
    assert capsys.readouterr().err.count("is left out") == 3


def test_controls_alone_are_nothing_to_compare(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    write_run(tmp_path / "run" / "controls" / "static-flops", control="static-flops")
    with pytest.raises(UserError, match="none of the runs is finished"):
        read_records([tmp_path / "run" / "controls"])


def test_a_label_with_a_dollar_is_no_mathematics(grow: Callable, tmp_path: Path) -> None:
    write_run(tmp_path / "sweep" / "a", label=r"$\frac$ and $5")
    assert grow("compare", "sweep").code == 0


def test_a_label_names_a_way_and_datasets_have_tables_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", label="mine")
    write_run(tmp_path / "b", dataset="digits")
    write_run(tmp_path / "c", subset=100)
    comparisons = compare(read_records([tmp_path]))
    assert sorted(c.title for c in comparisons) == ["digits", "mnist", "mnist, subset=100"]
    assert [way.label for c in comparisons for way in c.ways if c.title == "mnist"] == ["mine"]


def test_controls_follow_their_run_and_are_tested_against_it_only(tmp_path: Path) -> None:
    for method in ("tiny", "fold"):
        for seed in range(3):
            run = write_run(tmp_path / f"{method}{seed}", method=method, seed=seed, accuracy=0.9 + 0.01 * seed)
            write_run(
                run / "controls" / "static-flops",
                method="static",
                seed=seed,
                control="static-flops",
                accuracy=0.8,
                lr=0.1,
            )
    [comparison] = compare(read_records([tmp_path]))
    labels = [way.label for way in comparison.ways]
    assert labels in (
        ["fold", "fold · static-flops", "tiny", "tiny · static-flops"],
        ["tiny", "tiny · static-flops", "fold", "fold · static-flops"],
    )
    pairs = {(t.first.label, t.second.label) for t in comparison.tests_made}
    assert {p for p in pairs if "·" in p[1]} == {("tiny", "tiny · static-flops"), ("fold", "fold · static-flops")}
    assert len(pairs) == 3
    family = [t.found.t_pvalue for t in comparison.tests_made]
    assert all(t.t_holm >= p for t, p in zip(comparison.tests_made, family, strict=True))


def test_against_tests_every_way_against_one(tmp_path: Path) -> None:
    for method in ("tiny", "fold", "static"):
        for seed in range(3):
            write_run(tmp_path / f"{method}{seed}", method=method, seed=seed, accuracy=0.9 + 0.01 * seed)
    [comparison] = compare(read_records([tmp_path]), against="static")
    assert {t.second.label for t in comparison.tests_made} == {"static"}
    assert len(comparison.tests_made) == 2, "and no others, which would cost it significance"
    with pytest.raises(UserError, match="--against nothing: must be one of 'fold'; 'static'; 'tiny'"):
        compare(read_records([tmp_path]), against="nothing")


def test_different_recipes_and_machines_are_said(tmp_path: Path) -> None:
    write_run(tmp_path / "a", method="tiny", lr=0.1, device="cuda:0")
    write_run(tmp_path / "b", method="static", lr=0.01)
    [comparison] = compare(read_records([tmp_path]))
    notes = " ".join(comparison.notes)
    assert "The recipes differ: optimizer.lr is 0.1 for tiny, 0.01 for static" in notes
    assert "different machines" in notes


def test_unfinished_runs_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", status="interrupted")
    assert len(read_records([tmp_path])) == 1
    assert "1 of the runs is not finished and is left out" in " ".join(capsys.readouterr().err.split())


def test_the_front_is_by_means(tmp_path: Path) -> None:
    for method, accuracy, parameters in (("tiny", 0.9, 100), ("fold", 0.8, 200), ("static", 0.95, 300)):
        write_run(tmp_path / method, method=method, accuracy=accuracy, parameters=parameters)
    [comparison] = compare(read_records([tmp_path]))
    on = dict(zip(comparison.numbers["way"], comparison.numbers["front_parameters"], strict=True))
    assert on == {"tiny": True, "fold": False, "static": True}


def test_the_command_writes_tables_and_pictures(grow: Callable, tmp_path: Path) -> None:
    _sweep(tmp_path / "sweep", effect=0.005)
    outcome = grow("compare", "sweep")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "sweep" / "compare"
    assert {p.name for p in folder.iterdir()} == {
        *("compare.md", "compare.csv", "compare_tests.csv", "anytime.png", "fronts.png"),
    }
    numbers = pd.read_csv(folder / "compare.csv")
    assert list(numbers["way"]) == ["static", "tiny"]
    assert numbers["mean"].iloc[1] - numbers["mean"].iloc[0] == pytest.approx(0.005, abs=0.002)
    text = (folder / "compare.md").read_text()
    assert "Made by `grow compare sweep`" in text
    assert "| tiny | every | 6 |" in text
    assert grow("compare", "sweep").code == 0, "and again: its own pictures are no runs"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "grow compare needs runs"),
        (["nowhere"], "nowhere holds no run"),
        (["sweep", "--against", "x"], "--against x: must be one of"),
        (["unfinished"], "none of the runs is finished"),
    ],
)
def test_mistakes_are_a_sentence(arguments: list[str], words: str, grow: Callable, tmp_path: Path) -> None:
    write_run(tmp_path / "sweep" / "a")
    write_run(tmp_path / "unfinished" / "a", status="failed")
    outcome = grow("compare", *arguments)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())


def _as_text(folder: Path, bits: float, corpus: str) -> Path:
    """The same run as one that predicts text."""
    summary = json.loads((folder / "summary.json").read_text())
    for split in ("test", "val"):
        del summary[f"{split}_accuracy"]
        summary[f"{split}_bits_per_byte"] = bits
    summary |= {"architecture": {"outputs": 256}, "data": {"corpus": {"sha256": corpus, "files": 1, "bytes": 9}}}
    (folder / "summary.json").write_text(json.dumps(summary))
    metrics = pd.read_csv(folder / "metrics.csv").drop(columns="val_accuracy")
    metrics["val_bits_per_byte"] = [bits + 1, bits + 1.5, bits]
    metrics.to_csv(folder / "metrics.csv", index=False)
    return folder


def test_where_fewer_bits_are_better_fronts_curves_and_costs_turn_round(tmp_path: Path) -> None:
    for seed in range(3):
        for method, bits, size in (("copy", 2.0, 1000), ("static", 2.5, 2000)):
            run = write_run(tmp_path / f"{method}{seed}", method=method, seed=seed, dataset="python", parameters=size)
            _as_text(run, bits + 0.01 * seed, "aa")
    [found] = compare(read_records([tmp_path]), to=2.2)
    numbers = found.numbers.set_index("way")
    assert list(numbers.loc[["copy", "static"], "front_parameters"]) == [True, False]
    assert list(numbers.loc[["copy", "static"], "reached"]) == [3, 0]
    assert found.kind == "test bits per byte (lower is better)"
    assert "test bits per byte" in found.table.columns
    assert found.notes[0].startswith("Lower is better")
    for runs in found.curves["steps"].values():  # a guess among 256 bytes costs 8 bits; what was reached is kept
        for _, ys in runs:
            assert [round(y, 2) for y in ys] == [8, *[round(ys[1], 2)] * 2, round(ys[1] - 1, 2)]
    [test] = found.tests_made
    assert (test.found.difference < 0) == (test.first.label == "copy")


def test_runs_of_two_corpora_are_never_pooled(tmp_path: Path) -> None:
    for seed, corpus in enumerate(("aa", "bb")):
        _as_text(write_run(tmp_path / corpus, seed=seed, dataset="python"), 2.0, corpus * 32)
    titles = [found.title for found in compare(read_records([tmp_path]))]
    assert titles == ["python, corpus aaaaaaaa", "python, corpus bbbbbbbb"]


def test_every_table_gives_a_control_its_own_trigger(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trigger="every")
    write_run(run / "controls" / "static-steps", method="static", trigger="never", control="static-steps")
    write_run(run / "controls" / "random-replay", method="random", trigger="at", control="random-replay")
    records = read_records([tmp_path])
    (comparison,) = compare(records)
    ways = dict(zip(comparison.numbers["way"], comparison.numbers["trigger"], strict=True))
    assert ways == {"tiny": "every", "tiny · static-steps": "never", "tiny · random-replay": "at"}
    rows = re.findall(r"<tr><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", _runs(records, tmp_path / "report.html"))
    assert dict(rows) == ways
