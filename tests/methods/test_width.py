"""The width methods on whole runs and single events: what they add, where, how much, and what they leave alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grow_cli.methods.width import searching, statistics
from grow_cli.methods.width.searching import samples_for, search_batch
from grow_cli.surgery.apply import apply
from grow_cli.surgery.event import Event
from grow_cli.surgery.flops import FlopCounter, flops_per_unit
from grow_cli.surgery.measure import function_change, measure
from grow_cli.theory.bottleneck import whitening_of
from grow_cli.training.event import grow as grow_once
from grow_cli.training.step import make_step

METHODS = ["tiny", "gradmax", "net2net", "random_width"]
MODELS = {
    "mlp": ("model=mlp", "model.hidden=[3,2]", "model.activation=selu"),
    "mlp batch": ("model=mlp", "model.hidden=[3,2]", "model.activation=tanh", "model.norm=batch"),
    "cnn": ("model=cnn", "model.channels=[[2,1],[2]]", "model.hidden=[3]", "model.activation=selu"),
    "cnn batch gap": ("model=cnn", "model.channels=[[2],[2]]", "model.norm=batch", "model.head=gap", "model.activation=elu"),
    "rational": ("model=mlp", "model.hidden=[2]", "model.activation=rational"),
    "residual_cnn": ("model=residual_cnn", "model.width=4", "model.hidden=[2,1]", "model.activation=relu_right"),
    "residual_mlp": ("model=residual_mlp", "model.width=8", "model.hidden=[2,1]", "model.activation=gelu"),
    "vit": ("model=vit", "model.dim=8", "model.heads=2", "model.mlp=[2,1]"),
    "resnet18": ("model=resnet18", "model.stream=[4,6]", "model.hidden=[[1],[2,1]]", "model.classifier=[8]"),
}  # fmt: skip


def outputs(loop: Any) -> Tensor:
    probe = loop.session.data.probe(64)
    return measure(loop.session.model, probe.x, probe.y, loop.session.loss).outputs


def event(loop: Any) -> dict[str, Any]:
    return grow_once(loop.session).to_json()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_grows_every_model_again_and_again(method: str, model: str, make: Any) -> None:
    loop = make(f"method={method}", *MODELS[model], "growth.neurons=2")
    preserves = loop.method.preserves_function
    for _ in range(3):
        before, widths = outputs(loop), loop.session.model.widths()
        found = event(loop)
        after = loop.session.model.widths()
        assert sum(after) - sum(widths) == found["units_added"] <= 2 * len(loop.session.model.width_sites())
        assert torch.isfinite(outputs(loop)).all()
        if preserves:
            assert found["units_added"] > 0
            assert function_change(before, outputs(loop)).relative < 1e-5
        step = make_step(loop.session)
        for _ in range(3):
            step(*loop.session.batches.next())
    assert loop.session.progress.growth_flops > 0 or method == "net2net"


@pytest.mark.parametrize("method", METHODS)
def test_a_run_ends_and_its_uneven_net_is_evaluated(
    method: str, grow: Callable, wide: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = [f"method={method}", *wide, "growth.neurons=3", "growth.max_units=[9,4]", "optimizer.lr=1e-2"]
    arguments += ["method.significance=false"] if method == "tiny" else []
    assert grow("train", *arguments, "run_dir=r").code == 0
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    events = [json.loads(line) for line in (tmp_path / "r/growth.jsonl").read_text().splitlines()]
    assert summary["events"] == 2
    assert sum(e["units_added"] > 0 for e in events) == 2
    first, second = map(int, summary["widths"].split("-"))
    assert (first, second) != (1, 1)
    assert first <= 9
    assert second <= 4
    assert summary["architecture"]["model"]["hidden"] == [first, second]
    evaluated = grow("eval", "r")
    assert evaluated.code == 0
    assert f"{summary['parameters']:,}" in evaluated.out or str(summary["parameters"]) in evaluated.out


def test_the_growth_log_holds_the_spectrum_the_threshold_and_the_amplitudes(make: Any) -> None:
    loop = make("method=tiny", "model=mlp_tiny")
    details = event(loop)["details"]
    for site in [*details.get("proposals", []), *details.get("nothing_added", [])]:
        assert site["eigenvalues"] == sorted(site["eigenvalues"], reverse=True)
        assert site["significant"] == sum(value > site["threshold"] for value in site["eigenvalues"])
        assert site["bottleneck"] <= site["goal"]
        assert "update_amplitude" in site
    assert any(site["amplitudes_tried"] for site in details["proposals"])
    json.dumps(details)


def test_what_tiny_adds_lowers_the_loss_that_it_was_judged_on(make: Any) -> None:
    loop = make("method=tiny", "model=mlp", "model.hidden=[2,2]", "model.activation=selu")
    event = Event(model=loop.session.model, optimizer=loop.session.optimizer)
    loop.method.add(loop.session.moment(), event)
    assert sum(proposal.units for proposal in event.applied) > 0
    for proposal in event.applied:
        if proposal.units:
            assert proposal.details["loss_with"] < proposal.details["loss_without"]


@pytest.mark.parametrize("method", METHODS)
def test_max_units_neurons_and_parameters_are_limits(method: str, make: Any) -> None:
    base = (f"method={method}", "model=mlp", "model.hidden=[2,2]", "model.activation=selu")
    loop = make(*base, "growth.max_units=[3,2]", "growth.neurons=5")
    assert event(loop)["units_added"] <= 1
    assert loop.session.model.widths()[1] == 2
    loop = make(*base, "growth.neurons=1", "growth.max_units=[50]")
    assert event(loop)["units_added"] <= 2
    loop = make(*base, "growth.max_parameters=250")
    for _ in range(4):
        found = event(loop)
        assert found["parameters_after"] <= 250
    assert "growth.max_parameters" in json.dumps(found["details"])
    loop = make(*base, "growth.max_flops_per_sample=450")
    for _ in range(4):
        found = event(loop)
        assert found["flops_after"] <= 450
    assert found["flops_after"] > 250, "units are added as long as one fits"
    assert "growth.max_flops_per_sample" in json.dumps(found["details"])


@pytest.mark.parametrize("model", MODELS)
def test_what_another_unit_costs_is_what_the_nets_flops_rise_by(model: str, make: Any) -> None:
    loop = make("method=random_width", *MODELS[model], "method.where=best", "growth.neurons=1")
    net, shape = loop.session.model, loop.session.data.spec.input_shape
    each = {site.name: flops_per_unit(net, shape, site) for site in net.width_sites()}
    found = event(loop)
    assert found["units_added"] == 1
    assert found["flops_after"] - found["flops_before"] == each[found["site"]]


def test_without_a_significant_neuron_nothing_is_added_and_the_log_says_why(make: Any, monkeypatch: Any) -> None:
    from grow_cli.methods.width import statistics

    monkeypatch.setattr(statistics, "spurious", lambda *_: 1e9)
    loop = make("method=tiny", "model=mlp_tiny", "method.best_update=false", "method.significance=true")
    before = outputs(loop)
    found = event(loop)
    assert found["units_added"] == found["proposals"] == 0
    assert "chance" in found["details"]["reason"]
    assert torch.equal(before, outputs(loop))


def test_amplitude_zero_adds_nothing(make: Any, monkeypatch: Any) -> None:
    from grow_cli.methods.width.amplitude import Search

    measured = Search._measure

    def worse_with_units(self: Search, out: Any) -> Callable[[], float]:
        found, worse = measured(self, out), 10.0 if hasattr(self, "_loss") else 0.0
        return lambda: found() + worse

    monkeypatch.setattr(Search, "_measure", worse_with_units)
    loop = make("method=random_width", "model=mlp_tiny")
    found = event(loop)
    assert found["proposals"] == 0
    assert "no amplitude" in found["details"]["reason"]


def test_second_moments_of_raw_inputs_are_computed_once_on_samples_from_the_whole_split(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_WORTH_KEEPING", 1)
    loop = make("method=tiny", "model=mlp_tiny", "method.max_samples=100", "method.significance=false")
    run, observer = loop.session, loop.method.observer
    event(loop)
    assert list(observer._known) == ["hidden 1"]  # what enters the second layer changes
    kept = observer._known["hidden 1"]
    split = run.data.train.x
    x = run.data.prepare(split[[i * len(split) // 100 for i in range(100)]]).flatten(1).double()
    columns = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    expected = whitening_of(columns.T @ columns / len(x), loop.method.rtol)
    torch.testing.assert_close(kept @ kept.T, expected @ expected.T, rtol=1e-3, atol=1e-3)
    spent, whitened = [], ["hidden 1"]
    for known in (observer._known, observer._known, {}, {}):
        with FlopCounter() as counter:
            observer._known = known
            observer.observe(run.moment(), run.model.width_sites(), whitened)
        spent.append(counter.flops)
        whitened = [] if len(spent) == 3 else ["hidden 1"]
    assert spent[0] == spent[1] == spent[2] < spent[3], "what another process has whitened is not charged again"
    assert spent[3] - spent[0] > 2 * len(x) * columns.shape[1] ** 2


@pytest.mark.parametrize(("numbers", "samples"), [(10, 500), (16 * 32 * 32, 500), (32 * 32 * 32, 256)])
def test_fewer_samples_judge_amplitudes_where_layers_are_large(numbers: int, samples: int) -> None:
    assert samples_for(numbers) == samples


def test_the_largest_layer_that_can_get_units_says_on_how_many_samples_amplitudes_are_judged(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("method=tiny", "model=cnn", "model.channels=[[2,3],[2]]", "model.hidden=[5]").session
    largest = 3 * 8 * 8  # the second convolution's, which reads the first
    asked: list[int] = []
    monkeypatch.setattr(searching, "draw", lambda run, n, batch_size: asked.append(n) or [None])
    for limit in (largest, largest - 1):
        monkeypatch.setattr(searching, "_LARGE", limit)
        search_batch(run.moment(), None)
    search_batch(run.moment(), 7)
    assert asked == [500, 256, 7]


def test_the_batch_grows_with_the_root_of_the_complexity(make: Any) -> None:
    loop = make("method=net2net", "model=mlp_tiny", "method.batch_growth=true", "growth.neurons=8")
    found = event(loop)
    expected = round(32 * (found["flops_after"] / found["flops_before"]) ** 0.5)
    assert loop.session.batches.batch_size == expected > 32


@pytest.mark.slow
def test_training_by_growth_takes_no_gradient_step(grow: Callable, wide: tuple[str, ...], tmp_path: Path) -> None:
    arguments = ["method=tiny", *wide, "method.train_by_growth=true", "growth.max_events=6", "run_dir=r"]
    assert grow("train", *arguments, "trigger.every=25", "evaluate.every=25").code == 0
    events = [json.loads(line) for line in (tmp_path / "r/growth.jsonl").read_text().splitlines()]
    assert len(events) >= 3
    for one, then in pairwise(events):
        assert then["loss_before"] == pytest.approx(one["loss_settled"])  # nothing happens in between
    assert events[-1]["loss_after"] < 0.8 * events[0]["loss_before"]


@pytest.mark.parametrize("seed", range(4))
def test_a_conv_chain_grown_twenty_times_changes_by_no_more_than_the_amplitude_explains(seed: int, make: Any) -> None:
    """Must hold at sites in random order, with biases: the consumer's outputs move by what the search added."""
    loop = make(
        "method=tiny", "model=cnn", "model.channels=[[2,2],[1,3]]", "model.hidden=[2]", "model.activation=selu",
        "growth.neurons=1", "method.search_samples=48", "method.significance=false", f"seed={seed}",
    )  # fmt: skip
    run = loop.session
    torch.manual_seed(seed)
    x = run.data.probe(40).x
    added = 0
    for _ in range(20):
        sites = run.model.width_sites()
        site = sites[int(torch.randint(len(sites), ()))]
        seen: list[Tensor] = []
        handle = site.consumer.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        with torch.no_grad():
            run.model.eval()(x)
            (offer,) = loop.method.offers(run.moment(), [site])
            del seen[1:]
            if offer.proposal is not None:
                apply(offer.proposal, run.model, run.optimizer)
                added += offer.proposal.units
            run.model.eval()(x)
        handle.remove()
        before, after = seen[0], seen[-1]
        moved = ((after - before).norm() / before.norm()).item()
        chosen = abs(offer.details.get("amplitude", 0.0)) + offer.details["update_amplitude"]
        # selu's slope at 0 is 1.05 or 1.76 where the first order takes 1, on other samples than the search's
        assert moved <= 4 * chosen + 1e-6
    assert added >= 10


def test_copies_come_apart_and_share_their_fan_out(make: Any) -> None:
    loop = make("method=net2net", "model=mlp", "model.hidden=[4,3]", "growth.neurons=4")
    event(loop)
    hidden = loop.session.model.hidden[0].linear
    assert torch.equal(hidden.weight[:4].sort(0).values, hidden.weight[4:].sort(0).values)
    step = make_step(loop.session)
    for _ in range(5):
        step(*loop.session.batches.next())
    rows = hidden.weight.detach()
    assert torch.cdist(rows, rows).fill_diagonal_(1).min() > 0


def test_gradmax_gives_new_units_the_largest_gradient(make: Any) -> None:
    norms = {}
    for method in ("gradmax", "zero fan-in, random fan-out"):
        loop = make("method=gradmax", "model=mlp", "model.hidden=[6,5]", "model.activation=tanh", "growth.neurons=2")
        run = loop.session
        site = run.model.width_sites()[0]
        with run.streams.using("growth"):
            (offer,) = loop.method.offers(run.moment(), [site])
        assert offer.proposal is not None
        if method != "gradmax":
            outgoing = offer.proposal.outgoing
            drawn = torch.randn(outgoing.shape, generator=torch.Generator().manual_seed(0))
            outgoing.copy_(drawn / drawn.norm(dim=0) * outgoing.norm(dim=0))
        apply(offer.proposal, run.model, None)
        x, y = run.data.train.x, run.data.train.y
        run.loss(run.model(x), y).backward()
        norms[method] = run.model.hidden[0].linear.weight.grad[6:].norm().item()
    assert norms["gradmax"] > 1.2 * norms["zero fan-in, random fan-out"]


def test_dead_relus_are_refused_for_gradmax_and_a_warning_for_tiny(
    grow: Callable, wide: tuple[str, ...], make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = grow("train", "method=gradmax", *wide, "model.activation=relu")
    assert outcome.code == 2
    assert "relu_right" in outcome.err
    make("method=tiny", "model=mlp", "model.activation=relu")
    assert "1 to the right of 0 and 0 to the left" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_what_cannot_be_widened_is_a_sentence(make: Any, grow: Callable) -> None:
    from grow_cli.errors import UserError

    with pytest.raises(UserError, match=r"2 places to grow.*hidden 1"):
        make("method=tiny", "model=mlp_tiny", "growth.max_units=[3,3,3]")
    with pytest.raises(UserError, match="no hidden layer"):
        make("method=tiny", "model=mlp", "model.hidden=[]")
    with pytest.raises(UserError, match=r"model.norm=layer.*model.norm=batch"):
        make("method=tiny", "model=mlp", "model.norm=layer")
    outcome = grow("train", "method=net2net", "method.where=best")
    assert outcome.code == 2
    assert "method.where=all" in outcome.err
    loop = make("method=static", "model=cnn", "model.channels=[[4,4]]", "model.activation=selu")
    convolution = loop.session.model.stages[0][0].linear
    convolution.groups = 2
    tiny = make("method=tiny", "model=mlp").method
    with pytest.raises(UserError, match="groups=2"):
        tiny.check(loop.session.model)
    convolution.groups = 1
    for module in loop.session.model.modules():
        if isinstance(module, nn.SELU):
            module.forward = torch.sigmoid
    with pytest.raises(UserError, match="is 0 at 0"):
        tiny.check(loop.session.model)


def test_a_budget_that_is_used_up_from_the_start_is_said_at_the_start(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make("method=tiny", "model=mlp_tiny", "growth.max_units=[1]")
    assert "nothing will grow" in capsys.readouterr().err
    make("method=tiny", "model=mlp_tiny", "growth.max_parameters=10")
    assert "nothing will grow" in capsys.readouterr().err


def test_few_samples_are_a_warning_and_training_goes_on(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    loop = make("method=tiny", "model=mlp_tiny", "method.max_samples=20")
    event(loop)
    assert "(20 samples)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("model", ["mlp batch", "cnn batch gap"])
def test_behind_a_batch_norm_the_units_of_gradmax_have_the_scale_of_a_new_nets(model: str, make: Any) -> None:
    loop = make("method=gradmax", *MODELS[model], "growth.neurons=2", "optimizer.lr=1e-2")
    step = make_step(loop.session)
    for _ in range(10):
        step(*loop.session.batches.next())
    old = loop.session.model.widths()
    found = event(loop)
    assert found["function_change_relative"] < 1e-6
    assert found["units_added"] > 0

    def scales() -> list[Tensor]:
        sites = loop.session.model.width_sites()
        return [f.weight[n:] for site, n in zip(sites, old, strict=True) for f in site.followers]  # type: ignore[index]

    assert all((scale == 1).all() for scale in scales())
    step = make_step(loop.session)
    for _ in range(60):
        loss, _ = step(*loop.session.batches.next())
    assert torch.isfinite(loss)
    assert all(((scale > 0.5) & (scale < 2)).all() for scale in scales())


@pytest.mark.parametrize("units", [0, 2])
@pytest.mark.parametrize("model", ["mlp", "mlp batch", "cnn", "residual_mlp"])
def test_a_replay_makes_best_updates_where_the_schedule_has_them(model: str, units: int, make: Any) -> None:
    name = make("method=net2net", *MODELS[model]).session.model.width_sites()[-1].name
    changed = []
    for update in ("true", "false"):
        events = f"+method.events=[[{{kind: width, site: {name}, units: {units}, update: {update}}}]]"
        loop = make("method=replay", *MODELS[model], "trigger=at", "trigger.steps=[1]", events)
        step = make_step(loop.session)
        for _ in range(3):
            step(*loop.session.batches.next())
        consumer = loop.session.model.width_sites()[-1].consumer.weight.detach().clone()
        found = event(loop)
        assert found["units_added"] == units
        kept = loop.session.model.width_sites()[-1].consumer.weight[:, : consumer.shape[1]]
        changed.append(not torch.equal(kept, consumer))
        if update == "true":
            assert found["details"]["proposals"][0]["update_amplitude"] > 0
            assert found["updated"] == ([] if units else [name])
            assert found["loss_after"] < found["loss_before"]
    assert changed == [True, False]


def test_a_schedules_updates_survive_where_no_amplitude_of_its_units_lowers_the_loss(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hidden 2"
    events = f"+method.events=[[{{kind: width, site: {name}, units: 2, update: true}}]]"
    loop = make("method=replay", *MODELS["mlp"], "trigger=at", "trigger.steps=[1]", events)
    nothing = searching.search_units

    def useless(search: Any, *arguments: Any) -> Any:
        found, alpha, omega = nothing(search, *arguments)
        found.epsilon, found.loss = 0.0, search.loss
        return found, alpha, omega

    monkeypatch.setattr(searching, "search_units", useless)
    found = event(loop)
    assert found["units_added"] == 2
    assert found["loss_after"] < found["loss_before"], "the update is made, and the units are not read yet"


@pytest.mark.parametrize(
    ("limit", "significance", "says"),
    [("[60]", "true", True), ("[60,40]", "true", True), ("[3]", "true", False), ("[60]", "false", False)],
)
def test_a_run_that_the_significance_test_kept_small_says_so(
    limit: str, significance: str, says: bool, grow: Callable, wide: tuple[str, ...], tmp_path: Path
) -> None:
    keys = (f"growth.max_units={limit}", f"method.significance={significance}", "growth.neurons=10", "stop.epochs=12")
    outcome = grow("train", "method=tiny", *wide, *keys, "run_dir=r", "progress=off")
    assert outcome.code == 0, outcome.err
    told = json.loads((tmp_path / "r/summary.json").read_text()).get("below_max_units", "")
    assert bool(told) == says
    said = " ".join((outcome.out + outcome.err).split())
    assert ("the significance test (D.3) accepted fewer neurons" in said) == says
    if says:
        for part in (f"growth.max_units={limit.replace(',', ', ')}", "method.significance=false"):
            assert part in told
