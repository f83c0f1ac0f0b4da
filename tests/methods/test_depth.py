"""Depth growth by several blocks at one event: where they go, what they begin with, and that what holds for one holds for all."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from grow_cli.methods.patterns import PATTERNS, Addition, additions
from grow_cli.records.events import growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import read_metrics
from grow_cli.training.event import grow as grow_once
from grow_cli.training.event import growth_closed

DEEPEN = ("method=deepen", "method.warmup_steps=0")
VIT = ("model=vit", "model.dim=8", "model.heads=2", "model.mlp=[6,4]")
MODELS = {
    "vit": VIT,
    "residual_mlp": ("model=residual_mlp", "model.width=8", "model.hidden=[6,4]"),
    "residual_cnn": ("model=residual_cnn", "model.width=4", "model.hidden=[3,2]"),
}


def _deepened(pattern: str, present: int, new: int, frontier: int = 0) -> str:
    """The stack after the event: letters for the old blocks, the same in capitals for what is made of them."""
    stack = [chr(97 + i) for i in range(present)]
    for below, (place, source) in enumerate(additions(pattern, present, new, frontier)):
        stack.insert(place + below, "*" if source is None else chr(65 + source))
    return "".join(stack)


@pytest.mark.parametrize(
    ("pattern", "present", "new", "after"),
    [
        ("stack", 2, 4, "abABAB"),
        ("stack", 3, 2, "abcAB"),
        ("interleave", 2, 4, "aAAbBB"),
        ("interleave", 3, 4, "aAbBcCC"),
        ("middle", 3, 2, "abBBc"),
        ("middle", 4, 1, "abBcd"),
        ("top", 2, 2, "abBB"),
        ("bottom", 2, 2, "AAab"),
        ("before_frontier", 3, 2, "aBBbc"),
        ("stack", 0, 3, "***"),
    ],
)
def test_each_pattern_puts_the_blocks_where_it_says(pattern: str, present: int, new: int, after: str) -> None:
    assert _deepened(pattern, present, new, frontier=1) == after


@pytest.mark.parametrize("pattern", PATTERNS)
def test_places_ascend_so_that_blocks_can_be_inserted_one_by_one(pattern: str) -> None:
    for present in range(1, 6):
        for new in range(1, 9):
            found = additions(pattern, present, new, present - 1)
            assert len(found) == new
            assert [a.place for a in found] == sorted(a.place for a in found)
            assert all(0 <= a.place <= present and 0 <= (a.source or 0) < present for a in found)
    assert additions(pattern, 0, 2, 0) == [Addition(0, None)] * 2


def _trained(make: Any, *overrides: str, steps: int = 12) -> Any:
    loop = make(*overrides)
    loop.display.start(100, {})
    loop._train_until(steps)
    return loop


@pytest.mark.parametrize(
    ("start", "model"),
    [
        *(("copy", model) for model in MODELS),
        *(pytest.param("random", model, marks=[] if model == "vit" else [pytest.mark.slow]) for model in MODELS),
    ],
)
def test_blocks_with_zero_outputs_change_no_output_at_all(model: str, start: str, make: Any) -> None:
    loop = _trained(
        make,
        *DEEPEN,
        *MODELS[model],
        "method.factor=3",
        "method.pattern=stack",
        f"method.start={start}",
        "method.output=zero",
    )
    run = loop.session
    x = run.data.probe(64).x
    before = run.model.eval()(x).detach()
    event = grow_once(run)
    assert event.proposals == 4
    assert event.function_change == 0.0
    assert torch.equal(run.model.eval()(x), before)
    assert run.model.widths() == run.model.widths()[:2] * 3, "each is as wide as the block that it stands for"
    run.model.train()
    loop._model_changed()
    loop._train_until(18)
    assert not torch.equal(run.model.eval()(x), before), "and the blocks are trained from there on"


def test_half_of_what_a_block_adds_is_half_of_its_outputs(make: Any) -> None:
    run = _trained(make, *DEEPEN, *MODELS["residual_mlp"], "method.pattern=top", "method.output=half").session
    grow_once(run)
    old, new = run.model.blocks[-2:]
    x = torch.randn(5, 8)
    assert torch.allclose(new(x) - x, (old(x) - x) / 2, atol=1e-7)
    assert torch.equal(new.producer.weight, old.producer.weight)


def test_growth_goes_on_at_the_first_frontier_that_is_asked_for(make: Any) -> None:
    loop = _trained(make, "method=copy", *VIT, "method.warmup_steps=0", "method.first_frontier=1")
    run, method = loop.session, loop.method
    first, last = run.model.blocks
    assert method.frontier(run.model) is first
    grow_once(run)
    grow_once(run)
    assert list(run.model.blocks)[2:] == [first, last], "each new block goes below the one before it"
    assert method.frontier(run.model) is run.model.blocks[0]
    assert run.model.widths() == [6, 6, 6, 4], "and is made of it"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_copies_equal_their_sources_and_say_so_in_the_log(pattern: str, make: Any) -> None:
    run = _trained(make, *DEEPEN, *MODELS["vit"], "method.factor=2", f"method.pattern={pattern}").session
    old = list(run.model.blocks)
    event = grow_once(run)
    new = [block for block in run.model.blocks if all(block is not o for o in old)]
    assert len(new) == len(event.added or []) == 2
    for block, details, added in zip(new, event.details["proposals"], event.added or [], strict=True):
        source = old[int(details["source"].split()[1]) - 1]
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in block.state_dict().items())
        assert run.model.blocks[int(added["site"].split()[1]) - 1] is block, "the log names its place after the event"
        assert added["units"] == block.units


class _ByHand:
    """A torch loop that knows nothing of grow: AdamW with decay on matrices only, blocks appended by hand."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        self.model, self.config = model, config
        self.optimizer = self._new()

    def _new(self) -> torch.optim.Optimizer:
        parameters = list(self.model.parameters())
        decay = self.config.optimizer.weight_decay
        return torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=self.config.optimizer.lr,
            fused=True,
        )

    def step(self, x: torch.Tensor, y: torch.Tensor, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        nn.functional.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def stack(self, times: int, *, zero: bool, moments: bool) -> None:
        """The whole stack repeated, by deepcopy, and a new optimizer that gets the old one's state parameter by parameter."""
        old, memory = list(self.model.blocks), dict(self.optimizer.state)  # type: ignore[arg-type]
        for _ in range(times - 1):
            for block in old:
                copy = deepcopy(block)
                if zero:
                    for linear in (copy.out, copy.consumer):  # type: ignore[union-attr]
                        linear.weight.data.zero_()  # type: ignore[union-attr, operator]
                        linear.bias.data.zero_()  # type: ignore[union-attr, operator]
                self.model.blocks.append(copy)  # type: ignore[union-attr, operator]
                if moments:
                    for p, q in zip(block.parameters(), copy.parameters(), strict=True):
                        memory[q] = {k: v.clone() for k, v in memory[p].items()}
        self.optimizer = self._new()
        for p, state in memory.items():
            self.optimizer.state[p] = state


@pytest.mark.parametrize(
    ("output", "moments"), [pytest.param("as_is", "zero", marks=pytest.mark.slow), ("as_is", "copy"), ("zero", "copy")]
)
def test_stacking_equals_a_loop_written_by_hand_to_the_last_bit(output: str, moments: str, make: Any) -> None:
    keys = ("method.factor=3", "method.pattern=stack", f"method.output={output}", f"method.moments={moments}")
    loop = make(*DEEPEN, *VIT, *keys, "schedule.warmup=0", "optimizer=adamw", "optimizer.lr=1e-3", "growth.until=1")
    run = loop.session
    hand = _ByHand(deepcopy(run.model), run.config)
    seen, following = [], run.batches.next

    def noted() -> Any:
        batch = following()
        seen.append(batch)
        return batch

    run.batches.next = noted
    loop.display.start(100, {})
    loop._train_until(9)
    for x, y in seen:
        hand.step(x, y, 1e-3)
    assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), hand.model.parameters(), strict=True))
    grow_once(run)
    hand.stack(3, zero=output == "zero", moments=moments == "copy")
    assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), hand.model.parameters(), strict=True))
    loop._model_changed()
    loop._train_until(20)
    for x, y in seen[9:]:
        hand.step(x, y, 1e-3)
    assert len(seen) == 20
    ours, theirs = run.model.state_dict(), hand.model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for p, q in zip(run.model.parameters(), hand.model.parameters(), strict=True):
        assert all(torch.equal(v, hand.optimizer.state[q][k]) for k, v in run.optimizer.state[p].items())


def test_growth_may_begin_without_any_block(make: Any) -> None:
    keys = ("method.blocks=3", "method.start=random", "method.output=zero", "method.pattern=stack")
    run = make(*DEEPEN, *VIT, "model.mlp=[]", *keys).session
    event = grow_once(run)
    assert event.function_change == 0.0
    assert [a["site"] for a in event.added or []] == ["block 1", "block 2", "block 3"]
    grow_once(run)
    assert run.model.widths() == [8] * 6, "as wide as the stream, and then like those"


def test_alether_stacks_each_block_from_its_own_trajectory(make: Any) -> None:
    from grow_cli.theory.history import History

    keys = ("method.pattern=stack", "method.factor=2", "method.warmup_steps=0", "trajectory.every=3")
    loop = make("method=alether", *VIT, *keys, "method.output=as_is")
    alone = [History(6) for _ in range(2)]
    for block, history in zip(loop.session.model.blocks, alone, strict=True):
        history.watch(dict(block.named_parameters()))
        history.append(0)
    snapshot, count = loop._snapshot, [0]

    def both() -> None:
        snapshot()
        count[0] += 1
        for history in alone:
            history.append(count[0])

    loop._snapshot = both
    loop.display.start(100, {})
    loop._train_until(30)
    run = loop.session
    expected = [history.extrapolate(**loop.method.settings) for history in alone]
    grow_once(run)
    assert len(run.model.blocks) == 4
    for block, own in zip(list(run.model.blocks)[2:], expected, strict=True):
        for name, parameter in block.named_parameters():
            assert torch.allclose(parameter, own[name].weights, atol=1e-6), name


def test_alether_may_begin_silent(make: Any) -> None:
    run = _trained(make, "method=alether", *VIT, "method.output=zero", "method.warmup_steps=0", steps=40).session
    event = grow_once(run)
    block = run.method.frontier(run.model)
    assert event.loss_before == event.loss_after
    assert event.function_change == 0.0
    assert not block.out.weight.any()
    assert block.query.weight.any()


ERRORS = {
    "method.blocks=2 method.factor=2": "method.blocks=2 and method.factor=2: give one of them",
    "model.hidden=[] method.factor=2 method.start=random": "method.factor=2 times zero blocks is zero",
    "model.hidden=[]": "method=deepen needs a block to grow from",
    "method.first_frontier=1 method.pattern=top": "only before_frontier has a frontier to begin at",
    "method.first_frontier=3": "method.first_frontier=3: model=residual_mlp has 2 blocks: give one of them",
    "method.start=random method.moments=copy": "fresh blocks have no optimizer state",
    "method.moments=copy growth.optimizer_state=reset": "method.moments=copy and growth.optimizer_state=reset",
    "method.factor=9 growth.max_parameters=40000": "above growth.max_parameters=40,000",
    "model=mlp": "cannot grow model=mlp",
    "trigger.fractions=[1.5]": "trigger.fractions=[1.5]: must be",
    "trigger.fractions=[0.5,0.3]": "trigger.fractions=[0.5, 0.3]: must be in ascending order",
    "trigger.steps=[5]": "trigger.steps=[5] and trigger.fractions=[0.5]: set only one of them",
    "trigger.flops=[2e6,1e6]": "trigger.flops=[2000000.0, 1000000.0]: must be in ascending order",
    "trigger.flops=[1e9]": "trigger.fractions=[0.5] and trigger.flops=[1000000000.0]: set only one of them",
}


@pytest.mark.parametrize("typed", ERRORS)
def test_what_cannot_be_is_one_sentence_before_training(typed: str, grow: Callable) -> None:
    outcome = grow("train", "method=deepen", *typed.split(), "subset=200", "run_dir=run")
    assert outcome.code == 2
    assert ERRORS[typed] in " ".join(outcome.err.split())
    assert not Path("run", "metrics.csv").exists()


def test_a_second_event_that_would_overshoot_does_not_come(make: Any) -> None:
    keys = ("method.factor=2", "method.pattern=stack", "growth.max_parameters=1400")
    run = make(*DEEPEN, *MODELS["residual_mlp"], *keys).session
    assert growth_closed(run, 0.0) == ""
    grow_once(run)
    expected = "4 more blocks would make 1,498 parameters, above growth.max_parameters=1,400"
    assert growth_closed(run, 0.0) == expected


@pytest.mark.parametrize("unit", ["steps", "epochs", "flops", "seconds"])
def test_fractions_are_of_whatever_the_budget_is_given_in(unit: str, make: Any) -> None:
    from grow_cli.triggers.at import At

    limit = {"steps": 100, "epochs": 7, "flops": 1e9, "seconds": 40.0}[unit]
    stop = [f"stop.{unit}={limit}"] + (["stop.epochs=null"] if unit != "epochs" else [])
    run = make("method=static", *stop, "evaluate.unit=epochs", "evaluate.every=0.25").session
    trigger = At(fractions=[0.25, 0.5]).begin()
    run.progress.step = 1
    fired = []
    for part in (0.2, 0.25, 0.4, 0.5, 0.9):
        counted = part * limit * (run.batches.steps_per_epoch if unit == "epochs" else 1)
        setattr(run.progress, "step" if unit == "epochs" or unit == "steps" else unit, counted)
        fired.append(trigger.update(run.moment()).fires)
        if fired[-1]:
            trigger.reset(run.moment())
    assert fired == [False, True, False, True, False]


def test_a_net_that_grows_as_flops_are_spent_grows_at_the_same_flops_whatever_the_budget(grow: Callable) -> None:
    keys = ("method=zero_blocks", "trigger=at", "trigger.flops=[3e8,6e8]", "subset=500", "evaluate.unit=steps")
    for budget, events in (("5e8", 1), ("1e9", 2)):
        stop = ("stop.epochs=null", f"stop.flops={budget}", "growth.until=0.8", "evaluate.every=5")
        assert grow("train", *keys, *stop, f"run_dir={budget}", "progress=off").code == 0
        flops = read_metrics(RunFolder(Path(budget))).set_index("step")["flops"]
        spent = [flops[event.step] for event in growth_events(RunFolder(Path(budget)))]
        assert len(spent) == events
        assert all(mark <= after < mark + 3e7 for mark, after in zip((3e8, 6e8), spent, strict=False)), spent


@pytest.mark.slow
def test_random_replay_of_a_stack_has_its_places_and_its_widths(grow: Callable) -> None:
    keys = ("subset=200", "stop.epochs=2", "evaluate.every=0.5", "run_dir=run", "progress=off")
    assert grow("train", "method=stack", *VIT, "method.factor=3", "method.output=zero", *keys).code == 0
    assert grow("controls", "run", "--only", "random-replay", "progress=off").code == 0
    run, replay = (RunFolder(Path(p)) for p in ("run", "run/controls/random-replay"))
    (first,), (second,) = growth_events(run), growth_events(replay)
    assert first.widths_after == second.widths_after == "6-4-6-4-6-4"
    assert (first.step, first.added) == (second.step, second.added)
    assert second.function_change == 0.0, "as silent as the run's own blocks were"
