"""`grow plot --picture`: the pictures, the numbers behind them, and what is said where a run does not fit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from grow_cli import config as configuration
from grow_cli.analysis import landscape, plot
from grow_cli.analysis.boundaries import class_probabilities, mixed
from grow_cli.analysis.figures import short
from grow_cli.analysis.phases import evenly, load_phases
from grow_cli.analysis.pictures import AGAINST, PICTURES
from grow_cli.analysis.plot import event_costs, with_room
from grow_cli.analysis.score import added, best_ratios, eta_readings, thresholds
from grow_cli.commands.completion import candidates
from grow_cli.commands.overrides import with_overrides
from grow_cli.commands.train import compose
from grow_cli.models.base import rebuild
from grow_cli.models.modules.plain import MLP
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.pictures import grid, lead
from grow_cli.theory.expansion import expansion_gain_bound, expansion_score

SENN = (
    "method=senn optimizer=natural batch_size=200 trigger=every trigger.every=20 trigger.unit=epochs evaluate.every=20 "
    "method.layer_penalty=2 method.proposals=20 method.layer_proposals=5 method.steps=30 checkpoint.events=true "
    "progress=off dataset.samples=250 dataset.validation=0.2 dataset.test_samples=50 growth.neurons=2"
).split()
MOONS = (*SENN, "dataset=moons", "model.hidden=[]", "stop.epochs=140", "method.tau=1.05")
CURVE = (*SENN, "dataset=curve", "model.hidden=[1]", "method.depth=false", "stop.epochs=80", "method.tau=1.5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs `moons` and `curve`, which no test may change."""
    from grow_cli.cli import main

    folder = tmp_path_factory.mktemp("runs")
    for name, overrides in (("moons", MOONS), ("curve", CURVE)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["grow"])
            patch.chdir(folder)
            with pytest.raises(SystemExit) as left:
                main(["train", *overrides, f"run_dir={folder / name}"])
        assert not left.value.code
    return folder


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)[:, :, :3]


def coloured(path: Path, colour: str) -> float:
    """The part of the picture that has this colour, nearly."""
    from matplotlib.colors import to_rgb

    return float((np.abs(pixels(path) - to_rgb(colour)).max(axis=2) < 0.12).mean())


# picture, run → colours that its parts have
PARTS = {
    ("score", "moons"): ["tab:orange", "black", "white"],
    ("score", "curve"): ["tab:blue", "black", "white"],
    ("boundaries", "moons"): ["tab:blue", "tab:orange", "black"],
    ("landscape", "curve"): ["tab:blue", "black", "tab:green", "red"],
    ("runs", "moons"): ["tab:blue", "black", "white"],
}


@pytest.mark.parametrize(("picture", "run"), PARTS)
def test_each_picture_has_its_parts(picture: str, run: str, grow: Callable, runs: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    outcome = grow("plot", runs / run, "--picture", picture, "-o", drawn)
    assert (outcome.code, outcome.out.strip()) == (0, str(drawn)), outcome.err
    assert min(pixels(drawn).shape[:2]) > 300
    for colour in PARTS[picture, run]:
        assert coloured(drawn, colour) > 1e-4, colour
    assert len(np.unique(pixels(drawn).reshape(-1, 3), axis=0)) > 50, "lines are smooth, and nothing is blank"


def test_a_picture_is_named_after_itself_and_lies_in_the_run(grow: Callable, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "moons", tmp_path / "r")
    assert grow("plot", "r", "--picture", "score").out.strip() == "r/score.png"
    assert grow("plot", "r").out.strip() == "r/growth.png"
    assert {p.name for p in (tmp_path / "r").glob("*.png")} == {"score.png", "growth.png"}
    assert not list((tmp_path / "r").glob(".*.tmp"))


def test_runs_are_drawn_against_what_they_cost(grow: Callable, runs: Path, tmp_path: Path) -> None:
    drawn = set()
    for against in AGAINST:
        outcome = grow("plot", runs / "moons", "--against", against, "-o", tmp_path / f"{against}.png")
        assert outcome.code == 0, outcome.err
        drawn.add((tmp_path / f"{against}.png").read_bytes())
    assert len(drawn) == len(AGAINST), "each has an axis of its own"
    assert grow("plot", runs / "moons", "-o", tmp_path / "default.png").code == 0
    assert (tmp_path / "default.png").read_bytes() == (tmp_path / "steps.png").read_bytes()


def test_an_event_stands_where_its_evaluation_does() -> None:
    metrics = pd.DataFrame({"step": [10, 20, 30, 30], "epoch": [1.0, 2.0, 3.0, 3.0], "seconds": [1.0, 5.0, 6.0, 9.0]})
    metrics["flops"] = [100, 200, 900, 9000]  # the last event ended the run and was evaluated after
    events = [GrowthEvent(step=20), GrowthEvent(step=30)]
    found = {against: event_costs(metrics, events, against) for against in AGAINST}
    assert found == {"steps": [20, 30], "epochs": [2, 3], "seconds": [5, 6], "flops": [200, 900]}


def test_help_and_completion_know_the_pictures(grow: Callable) -> None:
    told = grow("plot", "--help").out
    assert all(name in told for name in PICTURES)
    assert candidates("grow plot r --picture ") == list(PICTURES)
    assert candidates("grow plot r --picture b") == ["boundaries"]
    assert candidates("grow plot r --p") == ["--picture"]
    assert candidates("grow plot r --against ") == list(AGAINST)
    assert candidates("grow plot r --against f") == ["flops"]
    assert "flops" not in candidates("grow compare r --against "), "there it takes a way"
    assert "--picture" in grow("--help").out


# the score


def test_the_curves_are_each_visits_best_ratio_of_a_kind(runs: Path) -> None:
    lines = [json.loads(line) for line in (runs / "moons/growth.jsonl").read_text().splitlines()]
    events = growth_events(RunFolder(runs / "moons"))
    for kind in ("width", "depth"):
        visits = [(e["step"], [c["ratio"] for c in e["details"]["candidates"] if c["kind"] == kind]) for e in lines]
        literal = [(step, max(found)) for step, found in visits if found]
        assert list(zip(*best_ratios(events, kind), strict=True)) == literal
    assert len(best_ratios(events, "depth")[0]) == len(lines) > len(best_ratios(events, "width")[0])


def test_visits_that_added_nothing_count_and_infinite_ratios_are_left_out() -> None:
    def event(step: int, *found: tuple[str, float | None]) -> GrowthEvent:
        return GrowthEvent(step=step, details={"candidates": [{"kind": k, "ratio": r} for k, r in found]})

    events = [event(1, ("width", 0.1), ("width", 0.4), ("depth", 9.0)), event(2, ("width", None)), event(3)]
    assert best_ratios(events, "width") == ([1], [0.4])
    assert best_ratios(events, "depth") == ([1], [9.0])
    assert best_ratios([GrowthEvent(step=1, details={"reason": "another method"})], "width") == ([], [])


@pytest.mark.parametrize(
    ("before", "after", "units", "kinds", "words"),
    [
        ("3", "4", 1, ["width"], "1 unit"),
        ("3-3", "5-4", 3, [], "3 units"),
        ("", "3", 2, ["depth", "width"], "1 layer and units"),
        ("3", "3-3", 3, ["depth"], "1 layer"),
        ("", "2-2", 4, ["depth", "depth"], "2 layers"),
    ],
)
def test_an_events_label_says_what_was_added(before: str, after: str, units: int, kinds: list, words: str) -> None:
    details = {"proposals": [{"kind": kind} for kind in kinds]} if kinds else {}
    event = GrowthEvent(widths_before=before, widths_after=after, units_added=units, details=details)
    assert added(event) == words


def test_widths_that_would_not_fit_are_cut_short() -> None:
    assert short("4-3-2-1") == "4-3-2-1"
    assert short("7-6-5-4-3") == "7-6-…-3 (5 layers)"


def test_the_threshold_is_tau_less_one_of_whatever_has_a_tau() -> None:
    assert thresholds(compose(["method=senn", "method.tau=1.2", "model=mlp"])) == pytest.approx([0.2])
    assert thresholds(compose(["method=static"])) == []
    eta = ["method=gradmax", "model=mlp", "model.activation=relu_right", "trigger=eta", "trigger.tau=1.5"]
    assert thresholds(compose(eta)) == pytest.approx([0.5])
    both = ["method=senn", "method.tau=1.2", "model=mlp", "trigger=eta", "trigger.tau=1.5"]
    assert thresholds(compose(both)) == pytest.approx([0.2, 0.5])
    combined = ["method=static", "trigger=any", "+trigger@trigger.of.eta=eta", "trigger.of.eta.tau=1.3"]
    assert thresholds(compose(combined)) == pytest.approx([0.3])


def test_the_score_of_another_method_is_what_the_trigger_read(grow: Callable, tmp_path: Path) -> None:
    asked = "dataset=moons model=mlp model.activation=relu_right model.hidden=[2] method=gradmax trigger=eta".split()
    short_run = "stop.epochs=4 dataset.samples=200 dataset.test_samples=50 checkpoint.events=true progress=off".split()
    assert grow("train", *asked, *short_run, "run_dir=r").code == 0
    steps, ratios = eta_readings(RunFolder(tmp_path / "r"))
    rows = [line.split(",") for line in (tmp_path / "r/metrics.csv").read_text().splitlines()]
    column = rows[0].index("trigger/eta_ratio")
    read = [(int(row[0]), float(row[column])) for row in rows[1:] if row[column]]
    assert list(zip(steps, ratios, strict=True)) == read
    assert read
    assert grow("plot", "r", "--picture", "score").code == 0
    assert coloured(tmp_path / "r/score.png", "tab:green") > 1e-4


# the nets


def test_a_phase_ends_before_each_event_that_added_something_and_with_the_run(runs: Path) -> None:
    folder = RunFolder(runs / "moons")
    grown = [e for e in growth_events(folder) if e.units_added]
    phases = load_phases(folder)
    assert [p.step for p in phases] == [*(e.step for e in grown), 140]
    widths = ["-".join(map(str, p.model.widths())) for p in phases]
    assert widths == [*(e.widths_before for e in grown), grown[-1].widths_after]
    assert phases[0].title.endswith("no hidden layer")
    assert phases[-1].title == f"step 140, widths {short(widths[-1])}"
    last = torch.load(folder.checkpoints / "last.pt", weights_only=True)
    assert all(
        torch.equal(a, b) for a, b in zip(phases[-1].model.state_dict().values(), last["model"].values(), strict=True)
    )


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("most", [2, 6, 12])
def test_of_too_many_phases_some_are_chosen_evenly(count: int, most: int) -> None:
    chosen = evenly(range(count), most)
    assert len(chosen) == min(count, most)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = {b - a for a, b in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_without_kept_nets_the_last_is_drawn_alone_and_the_remedy_is_told(
    grow: Callable, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "moons", tmp_path / "r")
    for path in (tmp_path / "r/checkpoints").glob("before-*.pt"):
        path.unlink()
    outcome = grow("plot", "r", "--picture", "boundaries")
    assert outcome.code == 0
    assert "checkpoint.events=true" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert coloured(tmp_path / "r/boundaries.png", "black") > 1e-4


# the boundaries


def test_the_grid_covers_the_points_and_pairs_run_along_x_first() -> None:
    x, y, pairs = grid(torch.tensor([[0.0, 10.0], [1.0, 30.0], [0.5, 20.0]]), 5)
    assert x.tolist() == pytest.approx(np.linspace(-0.08, 1.08, 5).tolist())
    assert y.tolist() == pytest.approx(np.linspace(8.4, 31.6, 5).tolist())
    assert pairs.tolist() == [[a, b] for b in y.tolist() for a in x.tolist()]


def test_the_background_is_the_nets_probability_of_each_class(runs: Path) -> None:
    model = load_phases(RunFolder(runs / "moons"))[0].model
    x = torch.randn(20, 2)
    weight, bias = model.head.weight, model.head.bias
    literal = 1 / (1 + torch.exp(-(x @ (weight[1] - weight[0]) + bias[1] - bias[0])))
    assert torch.allclose(class_probabilities(model, x)[:, 1], literal, atol=1e-6)


def test_the_line_is_where_the_two_likeliest_classes_are_equally_likely() -> None:
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    assert lead(p).tolist() == pytest.approx(np.array([[0, 0], [0.8, -0.8]]), abs=1e-6)
    three = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]])
    assert lead(three).tolist() == pytest.approx(np.array([[0.2, -0.2, -0.3], [0, 0, -0.2]]), abs=1e-6)


def test_an_even_mix_is_white_and_a_certain_class_has_its_colour() -> None:
    even, first = mixed(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    assert even.tolist() == pytest.approx([1, 1, 1])
    assert first[2] > first[1] > first[0], "pale blue"


# the landscape


def one_layer(units: int, activation: str = "rational", seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    model = {"name": "mlp", "hidden": [units], "activation": activation}
    net = rebuild({"model": model, "input_shape": [1], "outputs": 1, "task": "regression"}).eval()
    assert isinstance(net, MLP)
    return net


def problem(n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.randn(n, 1)
    return x, torch.sin(2 * x) + 0.1 * torch.randn(n, 1)


def hidden_and_gradients(net: MLP, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([net.hidden[0](x), torch.ones(len(x), 1)], 1).detach(), (2 * (net(x) - y)).detach()


def test_the_landscape_is_the_bound_over_the_score_of_each_unit_by_itself() -> None:
    net, (x, y) = one_layer(3), problem()
    locations, scales = torch.tensor([-1.0, 0.2, 1.5]), torch.tensor([0.1, 2.0])
    hidden, gradients = hidden_and_gradients(net, x, y)
    score = expansion_score(hidden, gradients, torch.eye(1))
    found = landscape.ratios(net, [(x, y)], locations, scales)
    assert found.shape == (2, 3)
    for i, scale in enumerate(scales):
        for j, location in enumerate(locations):
            z = (x.double() - location.double()) / scale.double()
            columns = torch.cat([z, 1 / (1 + z**2), z / (1 + z**2)], 1)
            bound = expansion_gain_bound(hidden, columns, gradients, torch.eye(1))
            assert float(found[i, j]) == pytest.approx(bound / score, rel=1e-6)


def test_the_best_rational_unit_is_worth_what_its_three_columns_are_together() -> None:
    net, (x, y) = one_layer(2), problem()
    hidden, gradients = hidden_and_gradients(net, x, y)
    z = (x.double() - 0.5) / 0.7
    (columns,) = landscape.new_units(net.hidden[0].activation, z.T)
    together = expansion_gain_bound(hidden, columns[0], gradients, torch.eye(1))
    shapes = torch.randn(20000, 3, dtype=torch.float64)
    alone = expansion_gain_bound(hidden, (columns[0] @ shapes.T).T.unsqueeze(2), gradients, torch.eye(1))
    assert 0.98 * together < float(alone.max()) <= together * (1 + 1e-9)


def test_a_relu_unit_may_open_to_either_side() -> None:
    net, (x, y) = one_layer(2, "relu"), problem()
    hidden, gradients = hidden_and_gradients(net, x, y)
    z = x.double() - 0.3
    sides = [expansion_gain_bound(hidden, side.relu(), gradients, torch.eye(1)) for side in (z, -z)]
    found = landscape.ratios(net, [(x, y)], torch.tensor([0.3]), torch.tensor([1.0, 0.2]))
    literal = max(sides) / expansion_score(hidden, gradients, torch.eye(1))
    assert found.flatten().tolist() == pytest.approx([literal, literal], rel=1e-5)


def test_over_several_samples_gains_and_scores_are_summed() -> None:
    net, (x, y) = one_layer(3), problem(60)
    at, scales = torch.tensor([0.1, 0.9]), torch.tensor([0.5])
    parts = landscape.halves(x, y, seed=3)
    assert sorted(torch.cat([a for a, _ in parts]).flatten().tolist()) == sorted(x.flatten().tolist())
    scores = [expansion_score(*hidden_and_gradients(net, *part), torch.eye(1)) for part in parts]
    each = [landscape.ratios(net, [part], at, scales) * score for part, score in zip(parts, scores, strict=True)]
    assert torch.allclose(landscape.ratios(net, parts, at, scales), sum(each) / sum(scores))


def test_a_unit_is_located_where_its_preactivation_is_zero() -> None:
    net = one_layer(4)
    at = landscape.unit_locations(net)
    assert torch.allclose(net.hidden[0].linear(at[:, None]).diagonal(), torch.zeros(4), atol=1e-6)


def test_the_true_curve_is_the_datasets_without_noise(runs: Path) -> None:
    config = configuration.build(with_overrides(RunFolder(runs / "curve"), []))
    found = landscape.true_curve(config)
    assert found is not None
    x, y = found
    assert (x.diff() >= 0).all()
    assert torch.allclose(y, torch.sin(2 * x) + torch.sin(5 * x) / 2, atol=1e-5)


# mistakes


def test_a_run_that_does_not_fit_is_told_why_and_nothing_is_written(grow: Callable, runs: Path, tmp_path: Path) -> None:
    plain = "progress=off dataset.samples=100 dataset.test_samples=20 stop.epochs=1".split()
    for asked in ("dataset=curve model.hidden=[3,3] run_dir=deep", "dataset=moons run_dir=flat"):
        assert grow("train", "method=static", "model=mlp", *asked.split(), *plain).code == 0
    damaged = tmp_path / "damaged"
    shutil.copytree(runs / "moons", damaged)
    grown = next(e.event for e in growth_events(RunFolder(damaged)) if e.units_added)
    first = damaged / f"checkpoints/before-{grown}.pt"
    first.write_bytes(first.read_bytes()[:100])
    young = tmp_path / "young"
    shutil.copytree(runs / "moons", young)
    (young / "checkpoints/last.pt").unlink()
    mistakes = {
        "nowhere --picture score": ["nowhere", "run folder"],
        "flat --picture scores": ["--picture scores", "runs, score, boundaries, landscape"],
        "flat deep --picture boundaries": ["boundaries", "one run", "2"],
        "flat --against time": ["--against time", "steps, epochs, seconds, flops"],
        "flat --picture score --against flops": ["--against", "--picture runs", "score"],
        "flat --picture score": ["no natural expansion score", "trigger=eta"],
        "deep --picture boundaries": ["dataset=curve", "points in the plane", "moons"],
        "flat --picture landscape": ["dataset=moons", "regression", "dataset=curve"],
        "deep --picture landscape": ["3-3", "one hidden layer", "model.hidden=[1]"],
        "damaged --picture boundaries": [first.name, "damaged"],
        "young --picture boundaries": ["last.pt", "no checkpoint"],
        "flat --picture boundaries -o b.jpeg": ["b.jpeg", ".png"],
        "flat --picture boundaries -o absent/b.png": ["absent/b.png", "cannot be written", "-o FILE"],
        "flat -o absent/b.png": ["absent/b.png", "cannot be written", "-o FILE"],
    }
    for typed, words in mistakes.items():
        outcome = grow("plot", *typed.split())
        assert outcome.code == 2, typed
        assert outcome.err.startswith("error: "), outcome.err
        assert len(outcome.err.strip().splitlines()) == 1, outcome.err
        for word in words:
            assert word in outcome.err
    assert not list(tmp_path.rglob("*.png"))


def test_labels_of_widths_touch_no_other_and_the_last_has_room() -> None:
    corner = [(0.01 * i, 0.015 * i) for i in range(8)]
    assert with_room([*corner, (0.9, 0.9)]) == [7, 8]
    assert with_room([(0.1, 0.1), (0.1, 0.5), (0.5, 0.1)]) == [0, 1, 2]
    assert with_room([]) == []


def test_the_legend_of_runs_with_long_names_stays_inside_the_picture(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / f"{number}-{'a_key=a_value_' * 8}" for number in range(2)]
    for folder in folders:
        shutil.copytree(runs / "moons", folder)
    drawn: list[Figure] = []
    monkeypatch.setattr(plot, "save", lambda figure, output: drawn.append(figure) or output)
    plot.plot_runs([RunFolder(folder) for folder in folders], tmp_path / "both.png")
    drawn[0].canvas.draw()
    axes = drawn[0].axes[0]
    legend = axes.get_legend()
    assert legend is not None
    inner, outer = legend.get_window_extent(), axes.get_window_extent()
    assert outer.x0 <= inner.x0 < inner.x1 <= outer.x1
    said = "".join(text.get_text().replace("\n", "") for text in legend.get_texts())
    assert all(folder.name in said for folder in folders), "nothing is cut"


def test_costs_on_an_axis_have_their_unit(grow: Callable, runs: Path, tmp_path: Path) -> None:
    outcome = grow("plot", runs / "moons", "--against", "flops", "-o", tmp_path / "r.svg")
    assert outcome.code == 0, outcome.err
    said = re.findall(r"<!-- (.*?) -->", (tmp_path / "r.svg").read_text(encoding="utf-8"))
    assert "training FLOPs" in " ".join(said)
    assert not [text for text in said if re.fullmatch(r"1e\d+", text)]
    assert [text for text in said if re.fullmatch(r"[\d.]+ [kMG]", text)]


def test_what_cannot_be_drawn_is_refused_without_advice(grow: Callable, runs: Path, tmp_path: Path) -> None:
    for name, picture in (("moons", "landscape"), ("curve", "boundaries")):
        shutil.copytree(runs / name, tmp_path / name)
        for kept in (tmp_path / name / "checkpoints").glob("before-*.pt"):
            kept.unlink()
        outcome = grow("plot", tmp_path / name, "--picture", picture)
        assert outcome.code == 2
        assert "checkpoint.events" not in outcome.err
        assert f"has dataset={name}" in outcome.err
