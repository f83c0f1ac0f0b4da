"""`grow tune`: what is refused before anything is trained, a trial's runs, the winner as an experiment, the whole command."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grow_cli.analysis.notes import tuned_note
from grow_cli.commands import trying
from grow_cli.commands.tune import split
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.tuning import study
from grow_cli.tuning.space import Span
from grow_cli.tuning.study import Result, Trial
from grow_cli.tuning.trials import Tuned, experiment_file, result, summaries

RUN = "dataset=moons model=mlp_tiny stop.epochs=2 threads=1 progress=off".split()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=3"], "use --seeds"),
        (["run_dir=x"], "use --folder"),
        (["optimizer.lr=1e-2,1e-3"], "only method may have several values"),
        (["method=tiny,tiny"], "names a method twice"),
        (["method"], "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+$") as error:
        split(words)
    assert says in str(error.value)


def test_methods_are_told_from_what_they_share() -> None:
    assert split(["method=tiny,senn", "dataset=moons"]) == (["tiny", "senn"], ["dataset=moons"])


@pytest.mark.parametrize("found", ["2.10.1", None])
def test_without_optuna_4_the_line_that_installs_it_is_said(
    grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(study, "version", version)
    outcome = grow("tune", *RUN)
    assert outcome.code == 2
    assert ("pip install 'grow-cli[tune]'" if found is None else "2.10.1 is installed") in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words", "says"),
    [
        ("optimizer.lrr: [1, 2]", [], "optimizer=adamw has no key lrr (did you mean lr?)"),
        ("optimizer.lr: {low: -1, high: 2}", [], "optimizer.lr=-1.0: must be above 0"),
        ("growth.optimizer_state: [carry, drop]", [], "must be one of carry, age, reset"),
        ("batch_size: {low: 1, high: 2.5}", [], "batch_size takes whole numbers"),
        ("optimizer: [adamw, adamm]", [], "optimizer=adamm does not exist"),
        ("model.activation: {low: 1, high: 2}", [], "takes no single number"),
        ("optimizer.lr: [1e-3, 1e-2]", ["dataset.validation=0"], "leaves no validation data"),
    ],
)
def test_a_space_that_the_configuration_does_not_allow_is_refused_before_the_first_trial(
    tmp_path: Path, line: str, words: list[str], says: str
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=r"^[^\n]+$") as error:
        trying.read(str(path), [*RUN, *words], "default")
    assert says in str(error.value)


def test_the_default_space_is_the_optimizers_and_the_recipe_lies_in_it() -> None:
    asked = trying.read("default", ["optimizer=sgd"], "default")
    assert asked.space == {
        "optimizer.lr": Span(1e-3, 0.5, log=True),
        "optimizer.weight_decay": Span(1e-6, 1e-2, log=True),
    }
    assert asked.recipe == {"optimizer.lr": 0.02, "optimizer.weight_decay": 5e-4}
    assert trying.read("default", ["optimizer=sgd", "optimizer.lr=0.9"], "default").recipe is None


def test_a_trials_runs_are_trained_once_and_no_test_split_is_read(tmp_path: Path) -> None:
    words = ["method=static", *RUN]
    trial = Trial(0, {"optimizer.lr": 0.01}, folder=tmp_path / "trial-000")
    came = trying.train(trial, words, [1000, 1001])
    found = summaries(trial)
    assert came.score == sum(s["best_val_accuracy"] for s in found) / 2
    assert [s["seed"] for s in found] == [1000, 1001]
    assert not any(key.startswith("test_") for s in found for key in s)
    config = RunFolder(tmp_path / "trial-000/seed-1001").config()
    assert config["optimizer"]["lr"] == 0.01
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.csv")}
    assert trying.train(trial, words, [1000, 1001]) == came
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.csv")} == before

    tuned = Tuned("static", {"optimizer.lr": Span(1e-4, 1, log=True)}, words, [1000, 1001], [])
    assert tuned.flops(trial) == sum(s["training_flops"] for s in found)


def test_a_trial_with_a_failed_run_has_no_score() -> None:
    good = {"status": "finished", "best_val_bits_per_byte": 2.0, "val_bits_per_byte": 2.5}
    assert result([good, good]) == Result(-2.0), "a score that is better when lower"
    assert result([good, {"status": "failed", "error": "the loss is NaN"}]) == Result(None, "the loss is NaN")


def test_a_training_that_fails_by_itself_is_its_trials_result(tmp_path: Path) -> None:
    trial = Trial(0, {"optimizer.lr": 1e30}, folder=tmp_path / "trial-000")
    came = trying.train(trial, ["method=static", *RUN], [1000, 1001])
    assert came.score is None
    assert came.note
    assert not (trial.folder / "seed-1001").exists(), "one failed run is enough"


def test_a_run_that_is_given_up_ends_well_says_so_and_costs_its_trial_what_it_took(
    grow: Callable, tmp_path: Path
) -> None:
    asked: list[tuple[int, float]] = []

    def hopeless(evaluations: int, best: float) -> bool:
        asked.append((evaluations, best))
        return evaluations == 3

    words = ["method=static", *RUN, "stop.epochs=9"]
    trial = Trial(1, {"optimizer.lr": 1e-6}, folder=tmp_path / "trial-001")
    came = trying.train(trial, words, [1000, 1001], hopeless)
    assert came == Result(None, "after 3 evaluations", pruned=True)
    assert came.state == "pruned"
    (summary,) = summaries(trial)
    assert summary["status"] == "finished"
    assert summary["ended"] == {"rule": "pruned", "value": 3}
    assert [number for number, _ in asked] == [1, 2, 3]
    assert asked[-1][1] == summary["best_val_accuracy"]
    assert not any(key.startswith("test_") for key in summary)
    assert trying.train(trial, words, [1000, 1001], hopeless) == came, "nor is it trained again"
    assert len(asked) == 3

    told = Trial(1, trial.values, "pruned", None, trial.folder)
    tuned = Tuned("static", {"optimizer.lr": Span(1e-7, 1, log=True)}, words, [1000, 1001], [told], "median")
    assert tuned.best is None
    assert tuned.cost()["flops"] == summary["training_flops"] > 0
    assert tuned.cost()["pruner"] == "median"
    assert tuned.rows()[0][-1] == "pruned"
    assert "3 evaluations (pruned by its search)" in grow("show", tmp_path / "trial-001/seed-1000").out
    extended = grow("resume", tmp_path / "trial-001/seed-1000", "stop.epochs=5", "progress=off")
    assert extended.code == 0, extended.err
    assert RunFolder(tmp_path / "trial-001/seed-1000").read_summary()["ended"]["rule"] == "epochs"


def test_a_run_is_never_given_up_at_its_end(tmp_path: Path) -> None:
    trial = Trial(1, {"optimizer.lr": 1e-3}, folder=tmp_path / "trial-001")
    came = trying.train(trial, ["method=static", *RUN], [1000], lambda evaluations, best: evaluations == 2)
    assert came.state == "finished"


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=tiny_mnist", "dataset=digits", "growth.max_events=2"],
        ["method=random_width", "model.hidden=[3,5]", "optimizer=sgd", "trigger=plateau", "trigger.patience=4"],
    ],
)
def test_the_winners_experiment_comes_to_what_was_trained(tmp_path: Path, words: list[str]) -> None:
    best = Trial(1, {"optimizer.lr": 0.0123}, "finished", 0.9)
    name = next((w.partition("=")[2] for w in words if w.startswith("method=")), "tiny")
    tuned = Tuned(name, {"optimizer.lr": Span(1e-4, 1, log=True)}, words, [1000], [best])
    assert trying.write_experiment(tuned, tmp_path, "a line") == name
    path = tmp_path / "experiment" / f"{name}.yaml"
    assert "lr: 0.0123" in path.read_text(encoding="utf-8")
    made = trying.composed([f"experiment={name}", "seed=7"], beside=[tmp_path])
    assert trying._flat(made) == trying._flat(trying.composed(tuned.words))
    assert (made.optimizer.lr, made.seed) == (0.0123, 7)
    assert (made.tuned.trials, made.tuned.seeds, made.tuned.flops) == (1, 1, 0.0)


@pytest.mark.slow
def test_trials_and_the_winner_begin_with_the_net_of_another_run(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *RUN, "method=static", "run_dir=outputs/first").code == 0
    words = [*(word for word in RUN if not word.startswith("model")), "method=static", "init=first"]
    trial = Trial(0, {"optimizer.lr": 0.0123}, folder=tmp_path / "t")
    assert trying.train(trial, words, [1000]).score is not None
    file = str(tmp_path / "outputs/first/checkpoints/last.pt")
    assert RunFolder(tmp_path / "t/seed-1000").config()["init"] == file
    best = Trial(0, trial.values, "finished", 0.9, folder=trial.folder)
    tuned = Tuned("static", {"optimizer.lr": Span(1e-4, 1, log=True)}, words, [1000], [best])
    assert trying.write_experiment(tuned, tmp_path, "a line") == "static"
    made = trying.composed(["experiment=static"], beside=[tmp_path])
    assert made.init == file


def way(label: str, tuned: object, control: str | None = None) -> Any:
    record = SimpleNamespace(config={"tuned": tuned}, control=control)
    return SimpleNamespace(label=label, control=control, records=[record])


def test_a_comparison_says_what_tuning_cost_and_first_of_all_that_ways_were_not_tuned_alike() -> None:
    cost = {"trials": 16, "seeds": 2, "flops": 3e9, "space": "aa"}
    one, other = way("tiny", cost), way("static", cost | {"flops": 2e9})
    assert tuned_note([one, other], alike=False) == []
    (told,) = tuned_note([one, other, way("tiny · random-replay", None, "random-replay")], alike=True)
    assert "tiny: 16 trials of 2 runs, 3 G FLOPs" in told
    assert "static: 16 trials of 2 runs, 2 G FLOPs" in told
    for unlike in (
        None,
        cost | {"trials": 8},
        cost | {"pruner": "median"},
        cost | {"space": "bb"},
        cost | {"trials": "16"},
        {"flops": 1},
        "x",
    ):
        ways = [one, way("static", unlike)]
        assert tuned_note(ways, alike=True) == []
        (told,) = tuned_note(ways, alike=False)
        assert told.startswith("not tuned alike (tiny: 16 trials of 2 runs, 3 G FLOPs; static: ")
    for alike in (True, False):
        assert tuned_note([way("tiny", None), way("static", None)], alike=alike) == [], "nothing was tuned"


def test_an_experiment_file_begins_as_hydra_needs_it() -> None:
    text = experiment_file({"dataset": "moons"}, {"stop.epochs": 3, "stop.steps": None}, "why")
    assert text.startswith("# @package _global_\n# why\ndefaults:\n- override /dataset: moons\n")
    assert "stop:\n  epochs: 3\n  steps: null\n" in text


@pytest.mark.slow
def test_every_method_is_searched_alike_and_the_same_line_trains_nothing_twice(grow: Callable) -> None:
    pytest.importorskip("optuna", reason="the extra tune")
    line = ["tune", "method=static,random_width", *RUN, "--trials", "2", "--seeds", "1", "--folder", "t"]
    outcome = grow(*line)
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("t/tune.json").read_text())
    methods = found["methods"]
    assert methods["static"]["space"] == methods["random_width"]["space"]
    values = [[trial["values"] for trial in methods[m]["trials"]] for m in ("static", "random_width")]
    assert values[0] == values[1]
    assert values[0][0] == {"optimizer.lr": 0.002, "optimizer.weight_decay": 0.1}, "the recipe first"
    runs = [json.loads(path.read_text()) for path in Path("t").glob("*/trial-*/seed-*/summary.json")]
    assert len(runs) == 4
    assert found["flops"] == sum(run["training_flops"] for run in runs)
    best = max(methods["static"]["trials"], key=lambda trial: (trial["score"], -trial["number"]))
    assert methods["static"]["winner"]["values"] == best["values"]
    assert "grow train --config-dir t experiment=static" in outcome.out

    before = {path: path.stat().st_mtime_ns for path in Path("t").rglob("metrics.csv")}
    assert grow(*line).code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("t").rglob("metrics.csv")} == before
    assert json.loads(Path("t/tune.json").read_text()) == found

    other = grow(*line, "batch_size=64")
    assert (other.code, "another question" in other.err, "--folder" in other.err) == (2, True, True)
    won = grow("train", "--config-dir", "t", "experiment=static", "run_dir=won", "progress=off")
    assert won.code == 0, won.err
    assert RunFolder(Path("won")).config()["optimizer"]["lr"] == best["values"]["optimizer.lr"]


@pytest.mark.slow
def test_trials_side_by_side_are_those_of_one_process_each_once(grow: Callable) -> None:
    pytest.importorskip("optuna", reason="the extra tune")
    outcome = grow("tune", "method=static", *RUN, "--trials", "4", "--seeds", "1", "--folder", "t", "-j", "2")
    assert outcome.code == 0, outcome.err
    trials = json.loads(Path("t/tune.json").read_text())["methods"]["static"]["trials"]
    assert [(trial["number"], trial["state"]) for trial in trials] == [(n, "finished") for n in range(4)]
    assert outcome.out.count("static, trial ") == 4
