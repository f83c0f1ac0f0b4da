"""`method=senn` in runs: what it adds, what it refuses, what it says, and that the function stays as it is."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli.commands.train import compose
from grow_cli.methods.senn import visit
from grow_cli.methods.senn.visit import Visit
from grow_cli.run import _device_and_data
from grow_cli.theory.expansion import explained, explained_elsewhere
from grow_cli.training.event import grow as grow_once

# a visit that takes a fraction of a second
QUICK = (
    "method.proposals=12",
    "method.layer_proposals=4",
    "method.steps=15",
    "method.samples=200",
    "method.held_out=200",
)
EAGER = ("method.tau=1.0001", "method.alpha=0", "method.judged=refitted", "method.layer_penalty=1")


def senn(make: Any, *overrides: str) -> Any:
    return make("method=senn", "optimizer=natural", "optimizer.iterations=10", "subset=600", *QUICK, *overrides)


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "growth.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("search", ["ascent", "langevin"])
@pytest.mark.parametrize("hidden", ["[]", "[3]", "[3,2]"])
def test_width_and_depth_grow_from_any_depth_and_keep_the_function(search: str, hidden: str, make: Any) -> None:
    loop = senn(make, f"model.hidden={hidden}", f"method.search={search}", *EAGER, "growth.neurons=2")
    before = loop.session.model.widths()
    for _ in range(2):
        loop._train_until(loop.session.progress.step + 10)
        loop._grow()
    events = events_of(loop.folder.path)
    assert sum(loop.session.model.widths()) > sum(before)
    assert len(loop.session.model.widths()) > len(before)
    for event in events:
        assert event["function_change_relative"] < 1e-5
        assert event["loss_after"] == pytest.approx(event["loss_before"], rel=1e-5)
        assert sum(p["kind"] == "depth" for p in event["details"]["proposals"]) <= 1


def test_a_convolutional_net_grows_channels_units_and_layers(make: Any) -> None:
    loop = senn(
        make, "model=cnn", "model.channels=[[2],[2]]", "model.hidden=[]", "model.activation=rational", "model.pool=avg",
        *EAGER, "growth.neurons=1", "method.samples=60", "method.held_out=60",
    )  # fmt: skip
    before = loop.session.model.widths()
    for _ in range(2):
        loop._train_until(loop.session.progress.step + 5)
        loop._grow()
    events = events_of(loop.folder.path)
    kinds = {p["kind"] for e in events for p in e["details"]["proposals"]}
    assert kinds == {"width", "depth"}
    assert len(loop.session.model.widths()) > len(before)
    assert all(e["function_change_relative"] < 1e-5 for e in events)


@dataclass
class Watched:
    """What a visit has read at a site, look after look."""

    score: list[float]
    """η_c, as fractions of λ = E‖∂L/∂outputs‖²."""
    most: list[float]
    """The layer's own λ, in the same unit: E[gᵀS⁻¹g], what η would be if its weights could make every desired move."""


def watched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Watched]:
    """Site → what visits read there from now on."""
    seen: dict[str, Watched] = {}
    original = visit.take_readings

    def noted(now: Any, places: Any, *arguments: Any, **keys: Any) -> Any:
        readings = original(now, places, *arguments, **keys)
        sites = {site.consumer: site.name for site in now.model.width_sites()}
        for place, reading in zip(places, readings, strict=True):
            at = seen.setdefault(sites[place.readers[0]], Watched([], []))
            left = reading.unit * float(reading.residual.square().sum()) / len(reading.residual)
            at.score.append(reading.score)
            at.most.append(reading.score + left)
        return readings

    monkeypatch.setattr(visit, "take_readings", noted)
    return seen


VISITED = {
    "refitted": ("model.hidden=[1,8]", "method.tau=1.25", "method.alpha=0.03", "method.judged=refitted"),
    "cross-fitted": ("model.hidden=[2,2]", "method.tau=1.5", "method.alpha=0.02", "method.judged=cross_fitted"),
    "a score above λ": ("dataset=moons", "model.hidden=[3,3]", "method.tau=1.1", "method.alpha=0.05"),
    "convolutions": (
        "model=cnn", "model.channels=[[1],[2]]", "model.hidden=[]", "model.activation=rational", "model.pool=avg",
        "method.tau=1.15", "method.alpha=0.03", "method.samples=100", "method.held_out=100", "method.judged=refitted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VISITED)
def test_theorem_1_bounds_the_additions_of_a_visit_layer_by_layer(
    case: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N_s < 1 + (ln λ − ln α)/ln τ with the layer's own λ, which may be above the E‖∂L/∂outputs‖² that α is a part of."""
    most = 60  # where a visit that never ends is stopped, above every bound
    keys = (*VISITED[case], "method.depth=false", "growth.neurons=null", f"growth.max_units=[{most}]")
    loop = senn(make, *keys)
    seen = watched(monkeypatch)
    added = Counter(one["site"] for one in grow_once(loop.session).added)
    tau, alpha = loop.method.tau, loop.method.alpha
    assert added
    for site, at in seen.items():
        own, bound = at.most[0], 1 + math.log(at.most[0] / alpha) / math.log(tau)
        assert at.most == pytest.approx([own] * len(at.most), rel=1e-3), (
            "the function stays, and with it what is desired"
        )
        assert added[site] < bound < most - 3
        assert max(at.score) <= own
        # what the theorem rests on, though here gains are judged on held-out samples and scores are those of all samples
        assert at.score[-1] > tau ** added[site] * at.score[0] or not added[site]
    assert max(at.score[0] for at in seen.values()) > 1 or case != "a score above λ"


@pytest.mark.parametrize("residual", ["layer", "network"])
def test_a_visit_says_what_every_site_is_worth(residual: str, make: Any) -> None:
    loop = senn(make, "model.hidden=[4]", f"method.residual={residual}", "method.judged=refitted")
    loop._grow()
    (event,) = events_of(loop.folder.path)
    candidates = event["details"]["candidates"]
    assert [(c["site"], c["kind"]) for c in candidates] == [
        ("hidden 1", "width"), ("hidden 1", "depth"), ("hidden 2", "depth")
    ]  # fmt: skip
    for candidate in candidates:
        assert 0 < candidate["gain"] <= 1
        assert candidate["score"] > 0
        penalty = 60 if candidate["kind"] == "depth" else 1
        assert candidate["ratio"] == pytest.approx(candidate["gain"] / penalty / candidate["score"])


def test_nothing_is_added_below_the_thresholds_and_the_log_says_why(make: Any) -> None:
    for override, said in (("method.tau=100", "tau - 1 = 99"), ("method.alpha=0.99", "alpha = 0.99")):
        loop = senn(make, "model.hidden=[4]", override)
        before = loop.session.model.widths()
        loop._grow()
        (event,) = events_of(loop.folder.path)
        assert event["units_added"] == 0
        assert said in event["details"]["reason"]
        assert loop.session.model.widths() == before


def test_growth_neurons_and_max_units_bound_a_visit(make: Any) -> None:
    loop = senn(make, "model.hidden=[3,3]", *EAGER, "method.depth=false", "growth.neurons=2", "growth.max_units=[4,9]")
    loop._grow()
    assert loop.session.model.widths() == [4, 5]


@pytest.mark.slow
def test_layers_keep_their_distance(make: Any) -> None:
    loop = senn(make, "model.hidden=[3]", *EAGER, "method.width=false", "method.layer_every=20")
    counts = []
    for _ in range(4):
        loop._grow()
        counts.append(len(loop.session.model.widths()))
        loop._train_until(loop.session.progress.step + 10)
    assert counts == [2, 2, 3, 3]
    assert loop.method.state_dict()["last_layer"] == 20


@pytest.mark.slow
def test_inserted_layers_respect_the_limits_on_units_and_parameters(make: Any) -> None:
    limits = ("growth.max_units=[5]", "growth.max_total_units=10", "growth.max_parameters=700")
    for limit in limits:
        loop = senn(make, "model.hidden=[]", *EAGER, limit)
        loop._grow()
        assert loop.session.model.widths() == []
        (event,) = events_of(loop.folder.path)
        assert "no room for a layer of 64 units" in event["details"]["reason"]
    loop = senn(make, "model.hidden=[]", *EAGER, "growth.max_units=[64]")
    loop._grow()
    assert loop.session.model.widths() == [64]


def test_the_consumer_of_a_new_layer_loses_its_moments_which_are_of_another_basis(make: Any) -> None:
    loop = make("method=senn", "optimizer=adam", "model.hidden=[3]", *QUICK, *EAGER, "method.width=false", "subset=600")
    loop._train_until(5)
    model, state = loop.session.model, loop.session.optimizer.state
    before = {model.hidden[0].linear.weight, model.head.weight}
    assert before <= set(state)
    loop._grow()
    (event,) = events_of(loop.folder.path)
    consumer = {"hidden 1": model.hidden[1].linear, "hidden 2": model.head}[event["site"]]
    assert before - set(state) == {consumer.weight}


@pytest.mark.slow
def test_what_was_found_above_a_new_layer_is_forgotten(make: Any) -> None:
    loop = senn(make, "model.hidden=[4,3]", *EAGER, "growth.neurons=1")
    visit = Visit(loop.session.moment(), loop.method, 0, layers_allowed=True)
    found = visit.look()
    below = next(c for c in found if c.site.kind == "depth" and c.site.index == 1)
    from grow_cli.surgery.apply import apply

    above = loop.session.model.width_sites()[1].producer
    assert any(key[1] is above for key in visit._populations)
    apply(below.proposal(), loop.session.model, loop.session.optimizer)
    visit.added(below.site)
    assert not any(key[1] is above for key in visit._populations)
    assert all(c.site.kind == "width" for c in visit.look())


def test_as_many_activations_as_rows_are_a_reason_not_a_score(make: Any) -> None:
    loop = make("method=senn", "optimizer=adam", "model.hidden=[70]", *QUICK, *EAGER, "subset=60", "method.depth=false")
    loop._grow()
    (event,) = events_of(loop.folder.path)
    assert "60 rows cannot tell its 71 activations from chance" in event["details"]["reason"]


def test_chains_without_a_value_are_never_drawn(make: Any) -> None:
    """Fewer samples than a layer has units: its second moment is singular."""
    loop = make(
        "method=senn",
        "optimizer=adam",
        "model.hidden=[60]",
        *QUICK,
        *EAGER,
        "growth.neurons=10",
        "subset=140",
        "method.search=langevin",
    )
    loop._grow()
    assert events_of(loop.folder.path)[0]["function_change_relative"] < 1e-4


def test_after_an_addition_the_same_unit_is_worth_little(make: Any) -> None:
    loop = senn(make, "model.hidden=[4]", *EAGER, "method.depth=false", "growth.neurons=3")
    visit = Visit(loop.session.moment(), loop.method, 0, layers_allowed=False)
    (first,) = visit.look()
    from grow_cli.surgery.apply import apply

    apply(first.proposal(), loop.session.model, loop.session.optimizer)
    site = loop.session.model.width_sites()[0]
    from grow_cli.methods.senn.candidates import NewUnits
    from grow_cli.scoring import FullReading, place_of, take_readings

    (reading,) = take_readings(loop.session.moment(), [place_of(site)], visit._x, visit._y)
    assert isinstance(reading, FullReading)
    again = NewUnits(site).gains(first.point[None], reading)
    assert float(again[0]) < 1e-6


def test_cross_fitted_noise_gains_nothing_and_a_real_unit_almost_all(make: Any) -> None:
    g = torch.Generator().manual_seed(0)
    n, q = 400, 20
    signal = torch.randn(2 * n, q, generator=g, dtype=torch.float64)
    residual = signal @ torch.randn(q, 3, generator=g, dtype=torch.float64)
    noise = torch.randn(200, 2 * n, q, generator=g, dtype=torch.float64)
    here, there = slice(0, n), slice(n, 2 * n)
    gained = explained_elsewhere(noise[:, here], residual[here], noise[:, there], residual[there])
    refitted = explained(noise[:, there], residual[there])
    assert (refitted > 0).all()
    assert gained.mean() < 0
    real = explained_elsewhere(signal[None, here], residual[here], signal[None, there], residual[there])
    torch.testing.assert_close(real, explained(signal[None, there], residual[there]), rtol=1e-6, atol=0)


def test_a_trigger_that_asked_already_is_not_asked_twice(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = Visit.look

    def counted(self: Visit) -> Any:
        looks.append(self.now.progress.step)
        return look(self)

    monkeypatch.setattr(Visit, "look", counted)
    loop = senn(make, "model.hidden=[3]", "trigger=eta", *EAGER, "growth.neurons=2", "method.depth=false")
    loop.train_until_next_evaluation()
    assert loop.session.progress.growth_pending
    assert looks == [25]
    spent = loop.session.progress.growth_flops
    assert spent > 0
    loop._grow()
    assert looks == [25, 25, 25]  # anew after the additions only
    assert loop.session.progress.growth_flops > spent


@pytest.mark.slow
def test_a_run_ends_and_its_grown_net_is_evaluated_and_drawn(grow: Callable, tmp_path: Path) -> None:
    run = (
        "dataset=moons",
        "model.hidden=[]",
        "batch_size=200",
        "stop.epochs=30",
        "trigger=every",
        "trigger.every=10",
        "evaluate.every=10",
        "growth.neurons=10",
    )
    outcome = grow("train", "method=senn", "optimizer=natural", *run, *QUICK, *EAGER, "run_dir=r", "progress=off")
    assert outcome.code == 0, outcome.err
    assert "hidden" in outcome.out
    assert grow("eval", "r").code == 0
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert summary["growth_flops"] > 0
    assert summary["method"] == "senn"


@pytest.mark.parametrize("method", ["tiny", "gradmax", "random_width", "alether", "senn"])
def test_the_eta_trigger_reads_every_method_and_grows_when_the_threshold_is_passed(method: str, make: Any) -> None:
    model = {"alether": "model=residual_mlp", "senn": "model=mlp_senn"}.get(method, "model=mlp_tiny")
    quick = (*QUICK, "method.alpha=0", "method.tau=1.00001") if method == "senn" else ()
    parts = (f"method={method}", model, "trigger=eta", "trigger.tau=1.00001", "trigger.alpha=0", *quick)
    loop = make(*parts, "trajectory.every=2", "trigger.samples=200")
    loop.train_until_next_evaluation()
    readings = loop.session.progress.readings
    assert readings["eta_gain"] > 0
    assert readings["eta_ratio"] == pytest.approx(readings["eta_gain"] / readings["eta_score"])
    assert loop.session.progress.growth_pending
    loop = make(*parts[:-2], "trigger.alpha=0", *quick, "trajectory.every=2", "trigger.samples=200", "trigger.tau=1e6")
    loop.train_until_next_evaluation()
    assert not loop.session.progress.growth_pending


def test_asking_moves_no_random_stream(make: Any) -> None:
    loop = make("method=tiny", "model=mlp_tiny", "trigger=eta")
    before = loop.session.streams["growth"].get_state()
    loop.session.score_proposals(100)
    assert torch.equal(loop.session.streams["growth"].get_state(), before)


def test_where_nothing_can_grow_nothing_is_scored(make: Any) -> None:
    loop = make("method=tiny", "model=mlp_tiny", "trigger=eta", "growth.until=0")
    loop.train_until_next_evaluation()
    assert loop.session.progress.growth_flops == 0


MISTAKES = {
    "method.tau=1": ["method.tau=1", "above 1"],
    "method.alpha=-1": ["method.alpha=-1", "0 or more"],
    "method.held_out=0": ["method.held_out=0", "not optimised on"],
    "method.search=climb": ["method.search=climb", "ascent, langevin"],
    "method.width=false method.depth=false": ["method.width=false", "method.depth=false"],
    "model=mlp model.activation=selu": ["model=mlp", "model.activation=rational", "method.depth=false"],
    "model=mlp model.activation=rational model.norm=batch": ["model.norm=none", "method.depth=false"],
    "model=residual_mlp": ["residual_mlp", "model=mlp", "method.depth=false"],
    "method.alpha=0 growth.neurons=null": ["method.alpha=0", "growth.neurons=null", "Theorem 1"],
    "growth.max_units=[4,5]": ["growth.max_units=[4, 5]", "one limit for all layers"],
    "trigger=eta trigger.tau=0.5": ["trigger.tau=0.5", "above 1"],
    "trigger=eta trigger.samples=1": ["trigger.samples=1"],
    "optimizer=natural compile=true": ["compile=true", "natural"],
    "optimizer=natural precision=bf16": ["precision=bf16", "natural"],
    "optimizer=natural optimizer.damping=0": ["optimizer.damping=0", "above 0"],
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_a_sentence(typed: str, grow: Callable) -> None:
    outcome = grow("train", "method=senn", *typed.split())
    assert outcome.code == 2
    assert all(word in outcome.err for word in MISTAKES[typed]), outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("method", ["net2net", "copy"])
def test_copies_have_no_score_to_trigger_on(method: str, grow: Callable) -> None:
    outcome = grow("train", f"method={method}", "trigger=eta")
    assert outcome.code == 2
    assert "score 0" in outcome.err
    assert "trigger=every" in outcome.err


@pytest.mark.parametrize(
    ("typed", "weights", "expected"),
    [
        ((), 3, (1024, 1024, 300)),
        ((), 785, (15_700, 3925, 20)),
        ((), 3073, (61_460, 15_365, 16)),
        (("method.samples=500",), 785, (500, 1024, 300)),
        (("method.held_out=70", "method.proposals=7"), 785, (15_700, 70, 7)),
    ],
)
def test_a_unit_of_many_weights_is_optimised_on_more_samples_and_fewer_are_tried(
    typed: tuple[str, ...], weights: int, expected: tuple[int, ...]
) -> None:
    method: Any = compose(["method=senn", *typed]).method
    samples, held_out = method.numbers(weights)
    assert (samples, held_out, method.tried(samples)) == expected


@pytest.mark.parametrize(
    ("typed", "held_out", "weights", "refitted"),
    [
        ((), 1900, 1, True),
        ((), 1900, 9, False),
        ((), 1024, 1, False),
        (("method.alpha=0.01",), 400, 1, True),
        (("method.alpha=0",), 10**6, 1, False),
        (("method.judged=refitted",), 100, 9, True),
        (("method.judged=cross_fitted",), 10**6, 1, False),
    ],
)
def test_weights_are_refitted_where_noise_gains_less_than_alpha(
    typed: tuple[str, ...], held_out: int, weights: int, refitted: bool
) -> None:
    method: Any = compose(["method=senn", *typed]).method
    assert method.refits(held_out, weights) is refitted


@pytest.mark.parametrize(("held_out", "judged"), [(600, "cross_fitted"), (1000, "refitted")])
def test_how_proposals_are_judged_follows_from_the_samples_that_are_held_out(
    make: Any, held_out: int, judged: str
) -> None:
    words = ("method=senn", "model.hidden=[3]", "method.steps=1", "method.alpha=0.005", "method.depth=false")

    def gain(*typed: str) -> float:
        loop = make(*words, "subset=1200", "method.samples=100", f"method.held_out={held_out}", *typed)
        visit = Visit(loop.session.moment(), loop.method, 0, layers_allowed=False)
        return visit.look()[0].gain

    assert gain() == gain(f"method.judged={judged}")
    assert gain("method.judged=refitted") != gain("method.judged=cross_fitted")


def test_noise_gains_in_proportion_to_what_an_output_reads_of_a_unit() -> None:
    """The average that `refits` stands on: weights over samples, as a fraction of λ."""
    g = torch.Generator().manual_seed(0)
    n = 500
    residual = torch.randn(n, 4, generator=g, dtype=torch.float64)
    for weights in (1, 9):
        noise = torch.randn(400, n, weights, generator=g, dtype=torch.float64)
        expected = weights / n * float(residual.square().sum()) / n
        assert float(explained(noise, residual).mean()) == pytest.approx(expected, rel=0.05)


def test_each_site_has_samples_and_proposals_for_its_own_weights(make: Any) -> None:
    loop = make("method=senn", "subset=1200", "model.hidden=[3,3]", "method.steps=1")
    visit = Visit(loop.session.moment(), loop.method, 0, layers_allowed=False)
    visit._optimised = 1150
    visit.look()
    tried = {key[1]: len(population.points) for key, population in visit._populations.items()}
    first, second = (site.producer for site in loop.session.model.width_sites())
    assert tried == {first: 267, second: 300}, "of 65 weights on 1,150 samples, and of 4 on 1,024"


def test_the_inputs_of_rational_nets_are_bounded_unless_a_scale_is_given() -> None:
    for words, scale in (
        (["method=senn", "dataset=mnist"], None),
        (["method=senn", "dataset=mnist", "dataset.scale=1"], 1.0),
        (["experiment=senn_mnist"], 0.1),
        (["experiment=senn_mnist_paper"], 1.0),
        (["experiment=senn_mnist_subsets"], 1.0),
    ):
        assert compose(words).dataset.scale == scale, words


@pytest.mark.parametrize(("activation", "norm"), [("rational", 3), ("tanh", 8)])
def test_a_null_scale_bounds_the_inputs_of_rational_activations_only(activation: str, norm: float) -> None:
    _, data = _device_and_data(compose(["method=senn", f"model.activation={activation}", "method.depth=false"]), None)
    x = data.train.x.flatten(1)
    assert float(x.square().sum(1).mean()) ** 0.5 == pytest.approx(norm, rel=0.05)


def test_on_images_proposals_are_optimised_on_most_of_a_small_set(make: Any) -> None:
    loop = make("method=senn", "subset=600", "model.hidden=[3]")
    visit = Visit(loop.session.moment(), loop.method, 0, layers_allowed=True)
    assert visit._optimised / len(visit._x) == pytest.approx(1300 / 2324, abs=0.01), "20 for each of 65 weights"
    assert len(visit._x) == 600


def test_too_few_training_samples_to_hold_some_out_is_a_sentence(grow: Callable) -> None:
    outcome = grow("train", "method=senn", "subset=3", "dataset=moons", "stop.epochs=2")
    assert outcome.code == 2
    assert "no held-out samples" in outcome.err


def test_the_experiment_of_the_paper_has_its_constants_and_trains(make: Any) -> None:
    loop = make(
        "method=senn",
        "experiment=senn_mnist_paper",
        "dataset=digits",
        "batch_size=64",
        "optimizer.iterations=3",
        "subset=150",
        *QUICK,
    )
    config = loop.session.config
    assert (config.optimizer.name, config.method.tau) == ("natural", 1.007)
    loop.train_until_next_evaluation()
    loop._grow()
    paper = compose(["experiment=senn_mnist_paper"])
    method = paper.method
    assert (method.tau, method.alpha, method.layer_penalty, method.judged) == (1.007, 0.25, 60, "refitted")  # type: ignore[attr-defined]
    assert (paper.optimizer.name, paper.optimizer.lr, paper.batch_size) == ("natural", 0.1, 1024)
    assert (method.proposals, method.layer_proposals, method.steps, method.samples) == (10000, 100, 300, 1024)  # type: ignore[attr-defined]
