"""`method=stages`: what an event adds, what it leaves alone, and what it is not for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli.commands.train import compose
from grow_cli.data.base import DataSpec
from grow_cli.data.tensors import load_data
from grow_cli.models.modules.stages import Stage, Stages
from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.run import assemble
from grow_cli.theory.residual import frequency_of, magnitudes_of
from grow_cli.training.loop import Loop

_SMALL = (
    *(
        "method=stages",
        "dataset.samples=60",
        "dataset.test_samples=40",
        "model.hidden=[[6,6]]",
        "optimizer.iterations=5",
    ),
    *("stop.epochs=6", "progress=off", "device=cpu", "threads=1"),
)


def begun(folder: Path, *overrides: str) -> Loop:
    """A loop before its first step."""
    config = compose([*_SMALL, *overrides])
    device = torch.device("cpu")
    data = load_data(config.dataset, data_dir=folder, subset=None, device=device, dtype=torch.float64)
    made = RunFolder(folder / "run")
    made.create({})
    return assemble(config, made, data, device)


def test_a_stage_is_an_mlp_times_its_magnitude() -> None:
    stage = Stage(1, [5, 4], 2, activation="tanh", first="sine").double()
    stage.magnitude.factor.copy_(torch.tensor([0.5, 3.0]))
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    first, second = stage.maps
    by_hand = torch.sin(x @ first.weight.T + first.bias)
    by_hand = torch.tanh(by_hand @ second.weight.T + second.bias) @ stage.head.weight.T + stage.head.bias
    torch.testing.assert_close(
        stage(x), by_hand * torch.tensor([0.5, 3.0], dtype=torch.float64), rtol=1e-14, atol=1e-14
    )


def test_the_sum_is_that_of_its_stages() -> None:
    ends = DataSpec("curve", "regression", (1,), 2)
    net = Stages(ends, hidden=[[3], [4, 2]], activation="tanh", first="sine")
    x = torch.randn(6, 1)
    torch.testing.assert_close(net(x), net.stages[0](x) + net.stages[1](x))
    assert net.widths() == [3, 4, 2]
    assert net.sizes() == {"hidden": [[3], [4, 2]]}
    assert [site.name for site in net.width_sites()] == ["stage 1 hidden 1", "stage 2 hidden 1", "stage 2 hidden 2"]


@pytest.mark.parametrize("omega", [3.0, 11.0])
@pytest.mark.parametrize("d", [1, 2])
def test_the_frequency_of_a_sine_is_its_own(omega: float, d: int) -> None:
    x = torch.rand(4000, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 6
    across = torch.tensor([1.0]) if d == 1 else torch.tensor([0.6, 0.8])
    r = 1e-9 * torch.sin(omega * (x @ across.double()) + 0.3)[:, None]
    assert frequency_of(x, r) == pytest.approx(omega, rel=0.05)


def test_what_has_no_frequency_is_given_one() -> None:
    x = torch.zeros(5, 1)
    assert frequency_of(x, torch.randn(5, 1)) == 1.0  # all points at one place
    assert frequency_of(torch.arange(5.0)[:, None], torch.zeros(5, 1)) == 1.0
    assert frequency_of(torch.arange(5.0)[:, None], torch.ones(5, 1)) == 1.0


def test_magnitudes_are_each_outputs_own_and_never_zero() -> None:
    left = torch.tensor([[3.0, 0.0], [-3.0, 0.0]])
    found = magnitudes_of(left)
    assert found is not None
    torch.testing.assert_close(found, torch.tensor([3.0, 4.5**0.5]))
    assert magnitudes_of(torch.zeros(3, 2)) is None


def _grown(tmp_path: Path, *overrides: str) -> Loop:
    loop = begun(tmp_path, *overrides)
    loop.train()
    loop.close()
    return loop


def test_a_new_stage_changes_no_output_and_is_scaled_to_what_is_left(tmp_path: Path) -> None:
    loop = begun(tmp_path)
    while not loop.session.progress.growth_pending:
        loop.train_until_next_evaluation()
    loop._grow()
    (event,) = growth_events(loop.folder)
    loop.close()
    assert event.function_change == 0.0
    (proposal,) = event.details["proposals"]
    assert proposal["magnitude"][0] == pytest.approx(event.loss_before**0.5, rel=1e-9)
    second = loop.session.model.last
    assert second.magnitude.factor.tolist() == proposal["magnitude"]
    assert not bool(second.head.weight.any())
    drawn = proposal["frequency"]  # one input: weights and biases are drawn from ±1, and multiplied
    assert proposal["frequency"] > 1
    largest = max(p.detach().abs().max().item() for p in second.maps[0].parameters())
    assert 0.5 * drawn < largest <= drawn * (1 + 1e-6)


def test_the_earlier_stages_stay_as_they_are_to_the_last_bit(tmp_path: Path) -> None:
    loop = begun(tmp_path)
    seen: list[dict[str, torch.Tensor]] = []
    grown = loop._grow

    def watched() -> None:
        grown()
        seen.append({name: t.clone() for name, t in loop.session.model.stages[0].state_dict().items()})

    loop._grow = watched
    loop.train()
    (before,) = seen
    after = loop.session.model.stages[0].state_dict()
    assert len(loop.session.model.stages) == 2
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert bool(loop.session.model.last.head.weight.any())


def test_a_step_on_the_second_stage_is_charged_for_what_it_computes(tmp_path: Path) -> None:
    loop = _grown(tmp_path)
    one = loop.session.flops // 2  # both stages are alike
    assert loop.session.model.widths() == [6, 6, 6, 6]
    assert one + 2 * one < loop.step_flops <= one + 3 * one  # forward through both, backward through one


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("model=mlp",), "use model=stages"),
        (("dataset=moons", "precision=fp32"), "for classification"),
    ],
)
def test_what_is_no_sum_or_no_regression_is_refused_before_training(
    grow: Any, wrong: tuple[str, ...], words: str
) -> None:
    small = [o for o in _SMALL if not o.startswith(("dataset.samples", "model.hidden", "dataset.test"))]
    done = grow("train", *small, *wrong)
    assert done.code == 2, done.err
    assert words in done.err, done.err
    assert not list(Path("outputs").rglob("metrics.csv"))
