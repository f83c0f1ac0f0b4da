"""`optimizer=natural` inside a run: with every model and method, resumed, and charged for what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

NATURAL = ("optimizer=natural", "batch_size=64", "evaluate.every=20", "optimizer.iterations=10")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("method=alether", "optimizer.lr=0.1"),
        ("method=static", "model=mlp", "model.activation=rational"),
        pytest.param(
            ("method=static", "model=residual_cnn", "model.width=4", "model.hidden=[3]"), marks=pytest.mark.slow
        ),
        pytest.param(
            ("method=static", "model=vit", "model.dim=8", "model.heads=2", "model.mlp=[6]", "model.patch=4"),
            marks=pytest.mark.slow,
        ),
        ("method=tiny",),
    ],
    ids=lambda o: " ".join(o[:2]),
)
def test_it_lowers_the_loss_on_every_kind_of_model_and_through_growth(make: Any, overrides: tuple[str, ...]) -> None:
    loop = make(
        *NATURAL, *overrides, "optimizer.lr=0.3", "trigger.every=20" if "static" not in overrides[0] else "seed=0"
    )
    loop.train_until_next_evaluation()
    first = loop.session.measured["val_loss"]
    for _ in range(3):
        loop.session.progress.growth_pending = loop.method.kind != "none"
        if loop.session.progress.growth_pending:
            loop._grow()
        loop.train_until_next_evaluation()
    assert loop.session.measured["val_loss"] < first
    assert (loop.session.progress.events > 0) == (loop.method.kind != "none")


def test_products_with_the_fisher_matrix_are_charged(make: Any) -> None:
    loop = make(
        *NATURAL, "method=static", "model=mlp", "optimizer.iterations=7", "optimizer.tolerance=0", "evaluate.every=2"
    )
    loop.train_until_next_evaluation()
    progress, batch = loop.session.progress, loop.session.batches.batch_size
    products = 7 + 8  # the second step begins at the first one's direction
    assert progress.flops == (3 * 2 + 4 * products) * loop.flops * batch


def test_the_last_direction_is_carried_through_growth_with_zeros_for_the_new(make: Any) -> None:
    loop = make(*NATURAL, "method=tiny", "evaluate.every=5")
    loop.train_until_next_evaluation()
    weight = loop.session.model.width_sites()[0].producer.weight
    before = loop.session.optimizer.state[weight]["direction"].clone()
    loop._grow()
    grown = loop.session.model.width_sites()[0].producer.weight
    after = loop.session.optimizer.state[grown]["direction"]
    assert after.shape == grown.shape
    assert len(grown) > len(weight)
    assert torch.equal(after[: len(before)], before)
    assert not after[len(before) :].any()
