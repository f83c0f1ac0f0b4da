"""Controls have their run's recipe and cost: what they differ in is the growing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from grow_cli.controls import KINDS, NotPossible, _entries, control_config, equal_sizes
from grow_cli.records.events import GrowthEvent
from grow_cli.records.folder import RunFolder

# a run of every kind of growth, seconds each; what the folder is called → overrides
RUNS = {
    "tiny": "method=tiny model.hidden=[4,3] growth.neurons=4 trigger.every=2 growth.max_units=[9] stop.epochs=10",
    "batch": "method=random_width growth.neurons=4 trigger.every=2 growth.max_units=[9] stop.epochs=10 method.batch_growth=true",
    "depth": "method=copy trigger=every trigger.every=3 method.warmup_steps=10 stop.epochs=10",
    "senn": "experiment=senn_moons method.proposals=20 method.layer_proposals=20 method.steps=60",
    "fold": "experiment=fold_sines",
}


def _summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "growth.jsonl").read_text().splitlines()]


def _cells(folder: Path) -> dict[str, Any]:
    return {path.parent.name: _summary(path.parent) for path in folder.glob("controls/*/summary.json")}


_SLOW = ("senn", "fold")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in _SLOW)) for k in RUNS])
def test_controls_match_their_run_in_size_and_cost(kind: str, grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *RUNS[kind].split(), "run_dir=run", "progress=off", "threads=1").code == 0
    run = tmp_path / "run"
    outcome = grow("controls", "run", "progress=off")
    assert outcome.code == 0, outcome.err
    grown, controls = _summary(run), _cells(run)
    missing = {k for line in outcome.out.splitlines() if ": no " in line for k in KINDS if k in line.split(": ")[1]}
    assert {*controls} | missing == set(KINDS)
    assert not {*controls} & missing
    for name in sorted({"static-steps", "static-flops", "static-seconds", "random-replay"} & set(controls)):
        assert controls[name]["widths"] == grown["widths"]
        assert controls[name]["parameters"] == grown["parameters"]
        assert controls[name]["control"] == name
        assert controls[name]["seed"] == grown["seed"]
    assert controls["static-flops"]["training_flops"] == pytest.approx(grown["training_flops"], rel=0.01)
    assert controls["static-seconds"]["seconds"] == pytest.approx(grown["seconds"], rel=0.05, abs=0.05)
    assert controls["random-replay"]["steps"] == grown["steps"]
    if kind == "batch":
        assert {"static-steps", "static-parameters"}.isdisjoint(controls), "its steps are of no fixed size"
        assert outcome.out.count("its minibatches grew") == 1, "said once, not once per control"
    else:
        assert controls["static-steps"]["steps"] == grown["steps"] + grown["growth_steps"]
    if "static-parameters" in controls:
        assert controls["static-parameters"]["parameters"] == pytest.approx(grown["parameters"], rel=0.02)
        assert controls["static-parameters"]["widths"] != grown["widths"]
    events, replayed = ([e for e in _events(p) if e["units_added"]] for p in (run, run / "controls" / "random-replay"))
    assert [(e["step"], e["added"], e["widths_after"]) for e in events] == [
        (e["step"], e["added"], e["widths_after"]) for e in replayed
    ]
    if kind == "batch":  # its random growth has the batch sizes of the run, too
        sizes = [
            pd.read_csv(p / "metrics.csv")["batch_size"].tolist() for p in (run, run / "controls" / "random-replay")
        ]
        assert sizes[0] == sizes[1]
    if kind == "depth":
        assert controls["random-replay"]["growth_steps"] == grown["growth_steps"] > 0


@pytest.mark.slow
def test_controls_that_are_there_are_left_alone_and_interrupted_ones_resumed(grow: Callable, tmp_path: Path) -> None:
    grow("train", *RUNS["tiny"].split(), "run_dir=run", "progress=off", "threads=1")
    grow("controls", "run", "--only", "static-steps,random-replay", "progress=off")
    steps, replay = tmp_path / "run" / "controls" / "static-steps", tmp_path / "run" / "controls" / "random-replay"
    before = {p: (p / "metrics.csv").stat().st_mtime_ns for p in (steps, replay)}
    finished = _summary(replay)
    (replay / "summary.json").unlink()  # as a kill between the last checkpoint and the summary leaves it
    outcome = grow("controls", "run", "--only", "static-steps,random-replay", "progress=off")
    assert "static-steps exists already" in outcome.out
    assert "random-replay resumed" in outcome.out
    assert before[steps] == (steps / "metrics.csv").stat().st_mtime_ns
    assert _summary(replay)["test_accuracy"] == finished["test_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["stop.flops=4e8", "stop.steps=300"])
def test_a_replay_has_every_event_whatever_the_budget_was(limit: str, grow: Callable, tmp_path: Path) -> None:
    words = "method=random_width growth.neurons=2 trigger.every=1 growth.until=0.9 stop.epochs=null progress=off run_dir=run"
    assert grow("train", *words.split(), limit).code == 0
    outcome = grow("controls", "run", "--only", "random-replay", "progress=off")
    assert outcome.code == 0, outcome.err
    run, replay = tmp_path / "run", tmp_path / "run" / "controls" / "random-replay"
    assert _summary(replay)["widths"] == _summary(run)["widths"]
    rates = [pd.read_csv(p / "metrics.csv")["lr"] for p in (run, replay)]
    assert ((rates[0] < rates[0].max()) == (rates[1] < rates[1].max())).all(), "the rate falls when the run's did"
    assert rates[1].iloc[-1] < 0.1 * rates[1].max()


@pytest.mark.slow
def test_a_replay_that_ends_too_early_fails_loudly(grow: Callable) -> None:
    event = "[{kind: width, site: hidden 1, units: 2}]"
    words = [
        "method=replay",
        "model=mlp",
        f"method.events=[{event},{event}]",
        "trigger.steps=[40,4000]",
        "stop.epochs=3",
    ]
    outcome = grow("train", *words, "progress=off")
    assert outcome.code == 1
    assert "before 1 of the schedule's 2 growth events" in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("stop.growth_events=2", "it stopped early (2 growth events)"),
        ("method=tiny method.train_by_growth=true", "no random-replay: it was trained by growth alone"),
    ],
)
def test_controls_that_would_not_be_fair_are_refused(more: str, words: str, grow: Callable) -> None:
    basis = "method=random_width growth.neurons=2 trigger.every=1 stop.epochs=8 progress=off run_dir=run"
    basis = basis.replace("method=random_width ", "") if "method=tiny" in more else basis
    assert grow("train", *more.split(), *basis.split()).code == 0
    assert words in " ".join(grow("controls", "run", "--only", "random-replay", "progress=off").out.split())


def test_an_undone_growth_is_not_replayed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    log = [
        {
            "event": 1,
            "kind": "width",
            "step": 10,
            "units_added": 2,
            "added": [{"kind": "width", "site": "a", "units": 2}],
        },
        {"event": 2, "kind": "rollback", "step": 20, "units_added": -2, "added": [], "details": {"undone": 1}},
        {
            "event": 3,
            "kind": "width",
            "step": 30,
            "units_added": 1,
            "added": [{"kind": "width", "site": "a", "units": 1}],
        },
        {"event": 4, "kind": "width", "step": 40, "units_added": 0, "added": []},
    ]
    folder.growth.write_text("".join(json.dumps(line) + "\n" for line in log))
    from grow_cli.controls import replayed

    assert replayed(folder) == [(30, [{"kind": "width", "site": "a", "units": 1}])]


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ({"name": "mlp", "hidden": [40, 11, 70]}, {"hidden": [4, 4, 4]}),
        ({"name": "residual_mlp", "hidden": [64, 64, 64]}, {"hidden": [64, 64]}),
        (
            {"name": "cnn", "channels": [[8, 10], [24, 24]], "hidden": [9]},
            {"channels": [[2, 2], [2, 2]], "hidden": [2]},
        ),
        ({"name": "vit", "mlp": [128, 128, 128], "patch": 4}, {"mlp": [128, 128]}),
    ],
)
def test_equal_sizes_have_the_grown_nets_parameters_and_the_first_nets_shape(model: dict, first: dict) -> None:
    from grow_cli.models.base import rebuild

    architecture = {"model": model, "input_shape": [3, 32, 32], "outputs": 10, "task": "classification"}
    sizes = equal_sizes(architecture, model | first)
    count = [sum(p.numel() for p in rebuild(architecture | {"model": m}).parameters()) for m in (model, model | sizes)]
    assert count[1] == pytest.approx(count[0], rel=0.02)
    assert [len(v) for v in sizes.values()] == [len(v) for v in first.values()]


def test_a_linear_net_has_no_control_of_equal_parameters() -> None:
    architecture = {"model": {"name": "mlp", "hidden": [5]}, "input_shape": [2], "outputs": 2, "task": "classification"}
    with pytest.raises(NotPossible, match="no hidden layer"):
        equal_sizes(architecture, {"hidden": []})


@pytest.mark.slow
def test_a_static_control_of_an_annealed_run_has_its_schedule(grow: Callable, tmp_path: Path) -> None:
    grow("train", *RUNS["tiny"].split(), "run_dir=run", "progress=off", "threads=1")
    raw, source = (control_config(RunFolder(tmp_path / "run"), "static-flops"), RunFolder(tmp_path / "run").config())
    for key in ("optimizer", "schedule", "batch_size", "dataset", "label_smoothing", "seed"):
        assert raw[key] == source[key]
    assert raw["growth"]["until"] == source["growth"]["until"], "where the rate begins to fall"


@pytest.mark.slow
def test_controls_side_by_side_stop_at_ctrl_c_and_go_on_later(grow: Callable, spawn: Callable, tmp_path: Path) -> None:
    words = [*RUNS["tiny"].split(), "stop.epochs=120", "run_dir='a=b'", "progress=off", "threads=1"]
    assert grow("train", *words).code == 0
    run, words = tmp_path / "a=b", ["controls", "a=b", "--only", "static-steps,random-replay,static-flops", "-j", "2"]
    process = spawn(*words)
    while not list(run.glob("controls/*/metrics.csv")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "interrupted: continue with `grow controls a=b" in " ".join(err.split())
    assert len(_cells(run)) < 3 or any(s["status"] != "finished" for s in _cells(run).values())
    assert grow(*words).code == 0
    assert [s["status"] for s in _cells(run).values()] == ["finished"] * 3


def test_a_run_whose_every_growth_was_taken_back_has_no_controls_and_is_told_so(grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"status": "finished", "events": 2, "undone": 2}))
    outcome = grow("controls", "run")
    assert outcome.code == 2
    assert "every growth of these runs was taken back" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "grow controls needs runs"),
        (["nowhere"], "nowhere holds no run"),
        (["run", "--only", "static"], "--only static: must be among static-steps"),
        (["run", "optimizer.lr=1"], "optimizer.lr=1: a control has its run's recipe"),
        (["run", "--jobs", "0"], "--jobs 0: must be 1 or more"),
        (["run"], "none of these runs is finished and has grown"),
    ],
)
def test_mistakes_are_a_sentence(arguments: list[str], words: str, grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0\n")
    outcome = grow("controls", *arguments)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())


def test_a_replay_lists_the_best_updates_of_the_run_in_the_order_of_its_sites() -> None:
    def event(sites: str, added: str, updated: str) -> GrowthEvent:
        """Sites with a capital letter were updated; digits are units."""
        proposals = [{"site": s.lower(), "update_amplitude": 0.5 if s.isupper() else 0} for s in sites]
        entries = [{"kind": "width", "site": s, "units": int(n)} for s, n in zip(added[::2], added[1::2], strict=True)]
        return GrowthEvent(
            kind="width", units_added=sum(e["units"] for e in entries), added=entries, updated=list(updated),
            details={"proposals": proposals},
        )  # fmt: skip

    def listed(entries: list[dict[str, Any]]) -> str:
        return " ".join(f"{e['site']}{e['units']}{'u' * e.get('update', False)}" for e in entries)

    assert listed(_entries(event("Abc", "a3b1", "c"))) == "a3u b1 c0u"
    assert listed(_entries(event("ABc", "b2", "ac"))) == "a0u b2u c0u"
    assert listed(_entries(event("A", "", "a"))) == "a0u"
    assert listed(_entries(event("aba", "a1b1a1", ""))) == "a1 b1 a1", "an event without updates stays as it is"
