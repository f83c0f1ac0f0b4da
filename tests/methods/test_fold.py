"""`method=fold` in runs: which mistakes, where it folds, what is held, what is told; and what is said where it cannot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grow_cli.commands.train import compose
from grow_cli.methods.fold import FoldAtMistakes
from grow_cli.methods.fold.clusters import cluster
from grow_cli.methods.fold.mistakes import judge
from grow_cli.methods.fold.placement import Placement
from grow_cli.theory.folding import fold_regularization
from grow_cli.training.event import grow as grow_once
from grow_cli.training.step import make_step

PLANE = ("dataset=sines", "model=mlp", "model.hidden=[3]", "subset=null", "optimizer=adam", "optimizer.lr=1e-2")


def fold(make: Any, *overrides: str) -> Any:
    return make(
        *("method=fold", "method.neurons_per_event=1"),
        *(() if any(o.startswith("model=") for o in overrides) else ("model=mlp_fold",)),
        *overrides,
    )


def train(loop: Any, steps: int) -> None:
    step = make_step(loop.session)
    for _ in range(steps):
        step(*loop.session.batches.next())


def grow_one(loop: Any) -> dict[str, Any]:
    event = grow_once(loop.session).to_json()
    loop.session.progress.firings += 1  # as the loop does
    return event


def test_a_new_neuron_folds_on_the_boundary_and_its_hyperplane_passes_through_that_point(make: Any) -> None:
    loop = fold(make, *PLANE)
    train(loop, 100)
    event = grow_one(loop)
    known = loop.method.state.grown[0]
    linear = loop.session.model.hidden[0].linear
    assert event["units_added"] == 1
    assert known.unit == 3
    with torch.no_grad():
        outputs = loop.session.model(known.x_fold[None])[0]
        height = linear.weight[3] @ known.x_fold + linear.bias[3]
    assert abs(float(outputs[known.predicted] - outputs[known.true])) < 1e-4
    assert abs(float(height)) < 1e-5
    torch.testing.assert_close(linear.weight[3].norm(), linear.weight[:3].norm(dim=1).mean())
    head = loop.session.model.head.weight
    torch.testing.assert_close(head[:, 3], head[:, :3].mean().expand(2))


def test_the_mistake_is_one_and_its_cluster_holds_only_mistakes(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]")
    train(loop, 60)
    judged = judge(loop.session.moment(), None)
    event = grow_one(loop)
    known = loop.method.state.grown[0]
    assert event["details"]["mistakes"] == int(judged.wrong.sum()) == known.mistakes
    assert judged.wrong[known.members.long()].all()
    assert known.sample == int(known.members[0])
    assert known.predicted == int(judged.outputs[known.sample].argmax())
    assert known.true == int(loop.session.data.train.y[known.sample])
    assert known.predicted != known.true
    torch.testing.assert_close(known.x_mistake, loop.session.data.train.x[known.sample])
    assert len(known.members) == max(event["details"]["clusters"])


def test_the_hyperplane_passes_through_the_mistake_too_and_the_unit_is_active_where_its_cluster_is(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]")
    train(loop, 60)
    grow_one(loop)
    known, linear = loop.method.state.grown[0], loop.session.model.hidden[0].linear
    cluster_x = loop.session.data.train.x[known.members.long()].flatten(1)
    with torch.no_grad():
        heights = torch.cat([known.x_mistake.flatten()[None], cluster_x]) @ linear.weight[-1] + linear.bias[-1]
    assert abs(float(heights[0])) < 1e-4
    assert float(heights[1:].mean()) > 0.01


@pytest.mark.parametrize(
    "option",
    ["method.cluster=hdbscan", "method.space=feature", "method.weight=severity", "method.neurons_per_event=3"],
)
def test_every_choice_reaches_the_clustering(option: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def watched(points: np.ndarray, weights: np.ndarray | None, **how: Any) -> Any:
        asked.update(points=points, weights=weights, **how)
        return cluster(points, weights, **how)

    monkeypatch.setattr("grow_cli.methods.fold.clusters.cluster", watched)
    loop = fold(make, "subset=600", "model.hidden=[4]", option)
    train(loop, 60)
    judged = judge(loop.session.moment(), None)
    wrong = judged.wrong
    x = loop.session.data.train.x[wrong]
    several = 3 if "neurons" in option else 1
    assert grow_one(loop)["units_added"] == several
    expected = x.flatten(1)
    if "feature" in option:
        with torch.no_grad():
            expected = loop.session.model.hidden[0](expected)[:, :4]
    np.testing.assert_allclose(asked["points"], expected.numpy()[:, : asked["points"].shape[1]], atol=1e-6)
    assert asked["least"] == max(2, several)
    assert asked["kind"] == ("hdbscan" if "hdbscan" in option else "kmeans")
    if "severity" in option:
        np.testing.assert_allclose(asked["weights"], judged.errors[wrong].numpy(), rtol=1e-5)
    else:
        assert asked["weights"] is None


def test_a_checkpoint_holds_the_mistakes_and_not_the_training_split(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]")
    train(loop, 60)
    grow_one(loop)
    for known in loop.method.state.grown:
        for tensor in (known.x_mistake, known.x_fold, known.members):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_holding_a_fold_leaves_batch_norms_and_random_streams_alone(make: Any) -> None:
    blocks = ("model=residual_mlp", "model.norm=batch", "model.hidden=[4]", "model.width=6")
    loop = fold(make, *PLANE[:1], *blocks, "subset=null", "method.regularization=0.1")
    train(loop, 60)
    assert grow_one(loop)["units_added"] == 1
    before = {name: t.clone() for name, t in loop.session.model.named_buffers()}
    state = torch.get_rng_state()
    term = loop.method.regularizer(loop.session.moment())
    assert term.requires_grad
    assert all(torch.equal(t, before[name]) for name, t in loop.session.model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert loop.session.model.training


@pytest.mark.slow
def test_with_squared_error_the_objective_is_algorithm_1s_and_the_ascent_gains(make: Any) -> None:
    loop = fold(make, "dataset=curve", "subset=null", "model=mlp", "model.hidden=[4]", "optimizer=adam")
    train(loop, 200)
    run, (k, w) = loop.session, (5, torch.tensor([0.7], dtype=torch.float64))
    torch.manual_seed(0)
    placing = Placement(run.moment(), 0, k)
    x, y = run.data.train.x[:1].double(), run.data.train.y[:1].double()
    x_fold = x[0] + 0.3
    aligned, norm = placing._objective(x, y, x[0], x_fold, x_fold)(w)

    def outputs(at: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        unit = torch.relu(at @ weight + bias)[:, None]
        return placing.net(at) + unit * placing.net.head.weight.mean()

    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((outputs(leaf, w, -(w @ x_fold)) - y).square().mean(), leaf)
    assert aligned.item() == pytest.approx(float(torch.sign(slope[0, 0]) * torch.sign(x_fold - x[0])[0]))
    norms = []
    for xi, yi in zip(placing._x, placing._y, strict=True):  # bias held: ∂L/∂w of Algorithm 1
        own = w.clone().requires_grad_()
        loss = (outputs(xi[None], own, -(w @ x_fold)) - yi).square().mean()
        norms.append(float(torch.autograd.grad(loss, own)[0].norm()))
    assert norm.item() == pytest.approx(sum(norms) / k)
    deep = ("model=mlp", "model.hidden=[4,3]", "method.layer=2")  # on a line there is nowhere to turn to
    loop = fold(make, "dataset=curve", "subset=null", "optimizer=adam", *deep)
    train(loop, 200)
    gained = [grow_one(loop)["details"]["proposals"][0]["folds"][0]["objective_gained"] for _ in range(3)]
    assert max(gained) > 1e-3


def test_with_cross_entropy_a_new_neuron_leaves_every_probability_as_it_was(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]")
    train(loop, 60)
    x = loop.session.data.probe(200).x
    with torch.no_grad():
        before = loop.session.model(x).softmax(1)
        grow_one(loop)
        after = loop.session.model(x)
    torch.testing.assert_close(after.softmax(1), before)


def test_descent_lowers_the_loss_at_once_and_lets_a_gradient_reach_the_incoming_weights(make: Any) -> None:
    norms, falls = {}, {}
    for outgoing in ("uniform", "descent"):
        loop = fold(make, "subset=600", "model.hidden=[4]", f"method.outgoing={outgoing}")
        train(loop, 60)
        event = grow_one(loop)
        falls[outgoing] = event["loss_before"] - event["loss_after"]
        probe = loop.session.data.probe(300)
        loop.session.loss(loop.session.model(probe.x), probe.y).backward()
        norms[outgoing] = float(loop.session.model.hidden[0].linear.weight.grad[-1].norm())
    assert falls["descent"] > 1e-3 > 1e-5 > abs(falls["uniform"])
    assert norms["descent"] > 1e-3 > 1e-6 > norms["uniform"]


def test_several_neurons_come_one_per_cluster_from_the_largest_down(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]", "method.neurons_per_event=3", "method.max_clusters=6")
    train(loop, 40)
    event = grow_one(loop)
    grown = loop.method.state.grown
    sizes = [len(known.members) for known in grown]
    assert event["units_added"] == len(grown) == 3 <= len(event["details"]["clusters"]) <= 6
    assert sizes == sorted(sizes, reverse=True)
    assert len({known.sample for known in grown}) == len(grown)
    assert [known.unit for known in grown] == list(range(4, 4 + len(grown)))
    members = [set(known.members.tolist()) for known in grown]
    assert not members[0] & members[1]


def test_as_many_clusters_are_looked_for_as_neurons_are_asked_for() -> None:
    """The silhouette alone has two of two blobs; of fewer places than that each is by itself."""
    points = np.random.default_rng(0).normal(size=(60, 2)) + 40 * (np.arange(60) % 2)[:, None]
    points = points.astype(np.float32)
    found = {least: cluster(points, None, kind="kmeans", least=least, most=6, seed=0).clusters for least in (2, 4)}
    assert (len(found[2]), len(found[4])) == (2, 4)
    for few in (points[:3], np.repeat(points[:3], 20, axis=0)):
        assert len(cluster(few, None, kind="kmeans", least=5, most=6, seed=0).clusters) == 3
    assert len(cluster(points, None, kind="kmeans", least=8, most=6, seed=0).clusters) == 6


def test_by_default_each_cluster_of_mistakes_gets_a_neuron(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]", "method.neurons_per_event=null", "method.max_clusters=6")
    train(loop, 40)
    event = grow_one(loop)
    assert event["units_added"] == len(event["details"]["clusters"]) >= 2
    assert FoldAtMistakes().neurons_per_event is None


def test_the_tuned_experiments_grow_a_neuron_at_a_time() -> None:
    for name in ("fold_mnist", "fold_cifar10"):
        assert compose([f"experiment={name}"]).method.neurons_per_event == 1


@pytest.mark.slow
def test_no_instance_gets_two_neurons(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[2]")
    train(loop, 30)
    for _ in range(4):
        grow_one(loop)
    samples = [known.sample for known in loop.method.state.grown]
    assert len(samples) == len(set(samples)) == 4


@pytest.mark.parametrize("held", ["newest", "all", "none"])
def test_the_loss_holds_the_folds_that_are_to_be_held(held: str, make: Any) -> None:
    loop = fold(make, *PLANE, f"method.regularize={held}", "method.regularization=0.5")
    run, method = loop.session, loop.method
    assert method.regularizer(run.moment()) is None
    train(loop, 100)
    for _ in range(2):
        grow_one(loop)
        train(loop, 20)
    linear = run.model.hidden[0].linear
    each = [
        fold_regularization(linear.weight[k.unit], linear.bias[k.unit], k.x_mistake, k.x_fold)
        for k in method.state.grown
    ]
    term = method.regularizer(run.moment())
    if held == "none":
        assert term is None
    else:
        chosen = each if held == "all" else each[-1:]
        torch.testing.assert_close(term, 0.5 * torch.stack(chosen).sum())


def test_a_strong_regularizer_keeps_the_fold_where_it_was_put(make: Any) -> None:
    drift = {}
    for alpha in (0, 1):
        loop = fold(make, *PLANE, f"method.regularization={alpha}")
        train(loop, 100)
        grow_one(loop)
        train(loop, 150)
        known, linear = loop.method.state.grown[0], loop.session.model.hidden[0].linear
        w, b = linear.weight[known.unit].detach(), linear.bias[known.unit].detach()
        drift[alpha] = float(fold_regularization(w, b, known.x_mistake, known.x_fold))
    assert drift[1] < 0.1 * drift[0]


@pytest.mark.parametrize("layer", [1, 2])
def test_a_deeper_layer_folds_in_its_own_features_as_they_are_now(layer: int, make: Any) -> None:
    loop = fold(make, *PLANE, "model.hidden=[6,4]", f"method.layer={layer}", "method.regularization=0.5")
    run, method = loop.session, loop.method
    train(loop, 60)
    grow_one(loop)
    assert run.model.widths() == ([7, 4] if layer == 1 else [6, 5])
    known = method.state.grown[0]
    train(loop, 30)
    linear = run.model.hidden[layer - 1].linear
    points = torch.stack([known.x_mistake, known.x_fold])
    phi = points if layer == 1 else run.model.hidden[0](points)
    expected = 0.5 * fold_regularization(linear.weight[-1], linear.bias[-1], phi[0], phi[1])
    torch.testing.assert_close(method.regularizer(run.moment()), expected)


def test_regression_folds_where_its_residual_is_large(make: Any) -> None:
    loop = fold(make, "dataset=curve", "subset=null", "model=mlp", "model.hidden=[4]", "optimizer=adam")
    train(loop, 200)
    judged = judge(loop.session.moment(), None)
    event = grow_one(loop)
    known = loop.method.state.grown[0]
    assert event["units_added"] == 1
    assert judged.errors[known.sample] > judged.tolerance
    assert known.tolerance == pytest.approx(float(judged.errors.square().mean().sqrt()))
    found = event["details"]["proposals"][0]["folds"][0]
    assert found["gradient_norm"] > 0
    assert found["objective_gained"] >= 0


def test_what_fold_adds_can_be_scored_and_scoring_leaves_no_trace(make: Any) -> None:
    loop = fold(make, "subset=600", "model.hidden=[4]", "trigger=eta", "trigger.tau=1.0001", "trigger.alpha=0")
    train(loop, 60)
    scored = loop.session.score_proposals(200)
    assert len(scored) == 1
    assert scored[0].gain > 0
    assert loop.method.state.grown == []
    grow_one(loop)
    assert len(loop.method.state.grown) == 1


# --- what the folder holds


def mistakes_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "mistakes/mistakes.csv").open() as file:
        return list(csv.DictReader(file))


RUN = (
    "method=fold",
    "model=mlp_fold",
    "model.hidden=[3]",
    "subset=400",
    "optimizer=adam",
    "trigger=every",
    "trigger.every=2",
    "growth.max_units=[6]",
    "stop.epochs=20",
)


@pytest.mark.slow
def test_every_neuron_has_its_picture_and_the_share_corrected_is_that_of_the_final_net(
    grow: Callable, tmp_path: Path
) -> None:
    assert grow("train", *RUN, "run_dir=r", "dataset=digits").code == 0
    folder = tmp_path / "r"
    rows, summary = mistakes_of(folder), json.loads((folder / "summary.json").read_text())
    assert [row["neuron"] for row in rows] == ["1", "2", "3"]
    assert {row["picture"] for row in rows} == {p.name for p in folder.glob("mistakes/*.png")}
    right = [row["right_at_end"] == "1" for row in rows]
    assert summary["mistakes_targeted"] == 3
    assert summary["mistakes_corrected"] == pytest.approx(sum(right) / 3)

    from grow_cli.commands.train import compose
    from grow_cli.data.tensors import load_data
    from grow_cli.models.base import rebuild

    config = compose(["dataset=digits", "subset=400"])
    data = load_data(config.dataset, data_dir=tmp_path, subset=400, device=torch.device("cpu"))
    net = rebuild(summary["architecture"])
    net.load_state_dict(torch.load(folder / "checkpoints/last.pt", weights_only=True)["model"])
    with torch.no_grad():
        answers = net(data.train.x).argmax(1)
    for row, is_right in zip(rows, right, strict=True):
        sample = int(row["sample"])
        assert data.spec.classes[data.train.y[sample]] == row["true"] != row["predicted"]
        assert data.spec.classes[answers[sample]] == row["predicted_at_end"]
        assert is_right == (answers[sample] == data.train.y[sample])


@pytest.mark.slow
def test_an_images_picture_is_the_image(grow: Callable, tmp_path: Path) -> None:
    from PIL import Image

    assert grow("train", *RUN, "growth.max_units=[4]", "run_dir=r", "dataset=digits").code == 0
    from sklearn.datasets import load_digits

    picture = np.asarray(Image.open(tmp_path / "r/mistakes/neuron-001.png"), dtype=float)
    assert picture.shape == (144, 144)
    small = picture[9::18, 9::18] / 255 * 16
    assert np.abs(load_digits().images - small).max((1, 2)).min() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["sines", "curve"])
def test_points_and_curves_have_pictures_and_a_page_too(dataset: str, grow: Callable, tmp_path: Path) -> None:
    typed = [o for o in RUN if not o.startswith("subset")]
    assert grow("train", *typed, "run_dir=r", f"dataset={dataset}", "checkpoint.events=true").code == 0
    rows = mistakes_of(tmp_path / "r")
    assert len(rows) >= 1
    assert all((tmp_path / "r/mistakes" / row["picture"]).stat().st_size > 2000 for row in rows)
    assert grow("explain", "r").code == 0
    page = (tmp_path / "r/explain.html").read_text()
    assert page.count('<figure class="wide">') == len(rows)


@pytest.mark.slow
def test_the_page_shows_every_neuron_and_needs_no_network(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *RUN, "run_dir=r", "dataset=digits").code == 0
    outcome = grow("explain", "r", "-o", "page.html")
    assert outcome.code == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure") == page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    for row in mistakes_of(tmp_path / "r"):
        assert f"{row['predicted']} → {row['true']}" in page
    corrected = json.loads((tmp_path / "r/summary.json").read_text())["mistakes_corrected"]
    assert f"({corrected:.0%})" in page


@pytest.mark.slow
def test_explain_says_what_is_missing(grow: Callable, wide: tuple[str, ...]) -> None:
    assert grow("train", "method=net2net", *wide, "run_dir=other").code == 0
    outcome = grow("explain", "other")
    assert outcome.code == 2
    assert "not grown for mistakes" in outcome.err
    assert grow("explain", "other", "-o", "page.pdf").code == 2
    assert "run folder" in grow("explain", "nowhere").err


# --- ordinary outcomes and sentences


def test_where_no_mistake_is_left_it_says_so_and_training_goes_on(make: Any) -> None:
    loop = fold(make, *PLANE, "model.hidden=[8]", "dataset.noise=0.01", "dataset.samples=60")
    train(loop, 600)
    assert not judge(loop.session.moment(), None).wrong.any()
    event = grow_one(loop)
    assert event["units_added"] == 0
    assert event["details"]["reason"] == "no mistake is left on the training split"


def test_a_single_mistake_is_a_cluster(make: Any) -> None:
    loop = fold(make, *PLANE, "model.hidden=[8]", "dataset.noise=0.01", "dataset.samples=60")
    train(loop, 600)
    loop.session.data.train.y[0] = 1 - loop.session.data.train.y[0]
    event = grow_one(loop)
    assert (event["details"]["mistakes"], event["details"]["clusters"]) == (1, [1])
    assert event["units_added"] == 1
    again = grow_one(loop)
    assert again["units_added"] == 0
    assert "has a neuron" in again["details"]["reason"]


def test_a_boundary_that_is_not_reached_is_an_ordinary_outcome(make: Any) -> None:
    loop = fold(make, *PLANE)
    with torch.no_grad():  # whatever comes in, class 0
        loop.session.model.head.weight.zero_()
        loop.session.model.head.bias.copy_(torch.tensor([1.0, 0.0]))
    event = grow_one(loop)
    assert event["units_added"] == 0
    assert "not reached" in event["details"]["reason"]


@pytest.mark.parametrize("kind", ["kmeans", "hdbscan"])
@pytest.mark.parametrize(
    "points",
    [np.zeros((1, 2)), np.zeros((7, 2)), np.eye(2), np.repeat(np.eye(3), 4, axis=0), np.arange(6.0).reshape(3, 2)],
    ids=["one", "seven alike", "two", "three places", "three"],
)
def test_few_or_identical_points_have_clusters(points: np.ndarray, kind: str) -> None:
    found = cluster(points.astype(np.float32), None, kind=kind, most=10, seed=0).clusters
    assert found
    members = np.concatenate([c.members for c in found])
    assert len(members) == len(set(members.tolist()))
    assert all(c.weight == len(c.members) for c in found)
    if kind == "kmeans":
        assert len(members) == len(points)


def test_clusters_that_are_plain_to_see_are_found_and_the_most_central_comes_first() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [9, 0], [0, 9]], dtype=np.float32)
    sizes = (40, 25, 10)
    points = np.concatenate([c + rng.standard_normal((n, 2)) * 0.5 for c, n in zip(centres, sizes, strict=True)])
    for kind in ("kmeans", "hdbscan"):
        found = cluster(points.astype(np.float32), None, kind=kind, most=8, seed=0).clusters
        assert len(found) == 3
        for c, centre in zip(found, centres, strict=True):
            assert np.linalg.norm(points[c.members[0]] - centre) < 1
    weights = np.concatenate([np.full(n, w) for n, w in zip(sizes, (1.0, 1.0, 9.0), strict=True)])
    severe = cluster(points.astype(np.float32), weights, kind="kmeans", most=8, seed=0).clusters
    assert np.linalg.norm(points[severe[0].members[0]] - centres[2]) < 1
    assert severe[0].weight == pytest.approx(90)


def test_noise_alone_falls_back_to_its_densest_place() -> None:
    from sklearn.cluster import HDBSCAN

    points = (2.0 ** np.arange(9))[:, None].astype(
        np.float32
    )  # ever farther apart: no cluster, densest at the beginning
    assert (HDBSCAN(min_cluster_size=5, copy=True).fit(points).labels_ == -1).all()
    found = cluster(points, None, kind="hdbscan", most=10, seed=0).clusters
    assert len(found) == 1
    assert set(found[0].members.tolist()) == set(range(5))


def test_the_page_draws_the_line_of_the_layer_that_grew(grow: Callable, tmp_path: Path) -> None:
    from grow_cli.analysis.folds import _preactivation
    from grow_cli.models.base import rebuild

    net = rebuild(
        {"model": {"name": "mlp", "hidden": [8, 3]}, "input_shape": [2], "outputs": 2, "task": "classification"}
    )
    x = torch.randn(5, 2)
    with torch.no_grad():
        inner = net.hidden[1].linear(net.hidden[0](x))
    torch.testing.assert_close(_preactivation(net, "hidden 2", 2, x), inner[:, 2])


@pytest.mark.slow
def test_a_damaged_table_is_told(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *RUN, "run_dir=r", "dataset=digits").code == 0
    for content in ("garbage\n", "", "neuron,event\n1,1\n"):
        (tmp_path / "r/mistakes/mistakes.csv").write_text(content)
        outcome = grow("explain", "r")
        assert outcome.code == 2
        assert "is damaged" in outcome.err


@pytest.mark.slow
def test_a_lost_picture_does_not_stop_the_page(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *RUN, "run_dir=r", "dataset=digits").code == 0
    (tmp_path / "r/mistakes/neuron-002.png").unlink()
    assert grow("explain", "r").code == 0
    page = (tmp_path / "r/explain.html").read_text()
    assert (page.count("<figure"), page.count("<img")) == (3, 2)


MISTAKES = {
    "model=mlp model.norm=batch": ["model=mlp", "no norm"],
    "model=mlp model.bias=false": ["biases"],
    "model=vit": ["vectors", "use model=mlp"],
    "model=mlp model.hidden=[]": ["no hidden layer"],
    "model=mlp model.hidden=[4,3] method.layer=3": ["method.layer=3", "1 (hidden 1), 2 (hidden 2)"],
    "model=mlp model.activation=identity": ["Identity", "model.activation=relu"],
    "method.cluster=dbscan": ["method.cluster=dbscan", "hdbscan"],
    "method.neurons_per_event=0": ["method.neurons_per_event=0", "1 or more"],
    "method.regularization=-1": ["method.regularization=-1", "0 or more"],
    "method.regularization=inf": ["method.regularization=inf", "a finite number"],
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_what_cannot_fold_is_refused_in_a_sentence(typed: str, grow: Callable) -> None:
    outcome = grow("train", "method=fold", "dataset=digits", *typed.split())
    assert outcome.code == 2
    assert all(word in outcome.err for word in MISTAKES[typed]), outcome.err
    assert "Traceback" not in outcome.err


def test_a_trigger_that_cannot_fire_in_time_is_told_at_the_start(grow: Callable) -> None:
    outcome = grow("train", "method=fold", "subset=100", "stop.epochs=10", "evaluate.every=1", "run_dir=r")
    assert outcome.code == 0
    assert "needs 20 evaluations" in outcome.err
    assert "there are 6" in outcome.err


@pytest.mark.slow
def test_a_smooth_activation_is_allowed_with_what_theorem_3_then_says(grow: Callable) -> None:
    outcome = grow("train", *RUN, "model.activation=gelu", "run_dir=r")
    assert outcome.code == 0
    assert "smooth" in outcome.err
    assert "Theorem 3" in outcome.err


@pytest.mark.slow
def test_a_limit_below_the_neurons_that_are_asked_for_is_told(grow: Callable) -> None:
    plenty = ("method.neurons_per_event=12", "method.max_clusters=12", "growth.neurons=12", "stop.epochs=1")
    for limit in ("method.max_clusters=5", "growth.neurons=5"):
        outcome = grow("train", *RUN, *plenty, limit, f"run_dir={limit[:6]}")
        assert outcome.code == 0
        assert f"method.neurons_per_event=12: {limit} limits an event to 5" in " ".join(outcome.err.split())
    assert "neurons_per_event" not in grow("train", *RUN, *plenty, "run_dir=enough").err


@pytest.mark.parametrize("kind", ["kmeans", "hdbscan"])
def test_mistakes_of_any_weight_are_clustered(kind: str) -> None:
    generator = np.random.default_rng(0)
    for n in (1, 2, 3, 30):
        points = generator.normal(size=(n, 2)).astype(np.float32)
        plain = cluster(points, None, kind=kind, most=5, seed=0)
        for size in (0.0, 1e-300, 1e-30, 1.0, 1e300):
            found = cluster(points, np.full(n, size), kind=kind, most=5, seed=0)
            assert sorted(len(c.members) for c in found.clusters) == sorted(len(c.members) for c in plain.clusters)
        one = cluster(points, np.r_[1.0, np.zeros(n - 1)], kind=kind, most=5, seed=0)
        assert all(len(c.members) for c in one.clusters)
