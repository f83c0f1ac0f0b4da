"""A score that comes down: what is best, when to stop, what is taken back, what wins; bits per byte against a count."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from grow_cli.commands.sweep import objective
from grow_cli.config import Stop
from grow_cli.moment import Progress
from grow_cli.surgery.undo import Undo
from grow_cli.tasks import TASKS
from grow_cli.training import loop
from grow_cli.training.budget import Budget
from grow_cli.training.metrics import Gathered

LANGUAGE = TASKS["language"]
SMALL = ("model=gpt", "model.dim=8", "model.heads=2", "dataset=text", "dataset.root=corpus", "dataset.context=16")
SMALL += (
    "evaluate.unit=steps",
    "evaluate.every=20",
    "stop.epochs=null",
    "stop.steps=60",
    "progress=off",
    "batch_size=8",
)
GROWING = ("trigger=at", "trigger.steps=[20]", "method.warmup_steps=2")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    words = ["def", "return", "self", "value", "name", "if", "else", "for"]
    chosen = random.Random(0)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(" ".join(chosen.choice(words) for _ in range(1500)))
    return folder


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_bits_per_byte_are_those_of_a_direct_count() -> None:
    outputs = torch.randn(3, 5, 256, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(256, (3, 5), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    bits, right = 0.0, 0
    for window, bytes_ in zip(outputs.double().tolist(), targets.tolist(), strict=True):
        for logits, byte in zip(window, bytes_, strict=True):
            bits -= math.log2(math.exp(logits[byte]) / sum(math.exp(v) for v in logits))
            right += logits.index(max(logits)) == byte
    sums = LANGUAGE.sums(outputs, targets, torch.float64).tolist()
    assert LANGUAGE.value(sums) == pytest.approx(bits / 15, rel=1e-6)
    assert LANGUAGE.values_beside(sums) == {"byte_accuracy": right / 15}
    assert LANGUAGE.of_loss(float(LANGUAGE.loss()(outputs, targets))) == pytest.approx(bits / 15, rel=1e-6)
    assert LANGUAGE.guess(256) == 8


def test_training_reads_bits_per_byte_off_the_loss_and_keeps_no_outputs() -> None:
    gathered = Gathered(LANGUAGE, torch.device("cpu"))
    outputs, targets = torch.randn(2, 4, 256), torch.zeros(2, 4, dtype=torch.uint8)
    for loss in (1.0, 3.0):
        gathered.add(torch.tensor(loss), outputs, targets)
    assert all(kept.numel() == 0 for entry in gathered.state_dict()["pending"] for kept in entry[1:])
    read = gathered.read()
    assert read["train_loss"] == 2
    assert read["train_bits_per_byte"] == pytest.approx(2 / math.log(2))


def test_a_run_ends_when_the_score_has_come_down_to_what_was_asked() -> None:
    budget = Budget(Stop(epochs=9, val_score=1.5), 10, direction=-1)
    assert budget.ended(Progress(best_val_score=-1.6), 1) is None
    assert budget.ended(Progress(), 1) is None
    assert str(budget.ended(Progress(best_val_score=-1.5), 1)) == "a validation score of 1.5"


def test_growth_has_helped_where_the_score_came_down() -> None:
    undo = Undo(snapshot=None, method={}, event=1, units=1, score=-2.0, batch_size=1)  # type: ignore[arg-type]
    assert undo.helped(LANGUAGE.direction * 1.9, 0.0)
    assert not undo.helped(LANGUAGE.direction * 2.1, 0.0)


def test_a_sweep_looks_for_the_lowest() -> None:
    assert objective({"val_bits_per_byte": 2.0}) == -2.0  # type: ignore[arg-type]


def test_the_best_checkpoint_is_the_one_with_the_fewest_bits(
    grow: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, seen = loop.measure_split, []

    def worse_and_worse(name: str, *of: Any) -> dict[str, float]:
        """A net that overfits: its third evaluation is the best."""
        found = measure(name, *of)
        if name == "val":
            seen.append(name)
            found["val_bits_per_byte"] += abs(len(seen) - 3)
        return found

    monkeypatch.setattr(loop, "measure_split", worse_and_worse)
    done = grow("train", *SMALL, "method=static", "run_dir=r", "stop.steps=100")
    assert done.code == 0, done.err
    found = [(float(row["val_bits_per_byte"]), int(row["step"])) for row in rows(tmp_path / "r")]
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["best_val_bits_per_byte"], summary["best_step"]) == min(found)
    assert min(found)[1] == 60
    assert (
        torch.load(tmp_path / "r" / "checkpoints" / "best.pt", weights_only=True)["progress"]["step"] == min(found)[1]
    )
    assert summary["val_bits_per_byte"] == pytest.approx(summary["val_loss"] / math.log(2))


@pytest.mark.parametrize("method", ["alether", "copy", "net2net", "tiny"])
def test_a_text_net_grows_by_every_kind_of_method(
    method: str, grow: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    depth = method in ("alether", "copy", "random")
    more = {
        "alether": ("method.rank=1", "trajectory.window=3", "trajectory.every=4"),
        "tiny": ("method.significance=false",),
    }
    given = (*GROWING, "model.mlp=[6,6]")[slice(None) if depth else slice(0, 2)]
    done = grow("train", *SMALL, f"method={method}", *given, *more.get(method, ()), "run_dir=r", "growth.neurons=2")
    assert done.code == 0, done.err
    event = json.loads((tmp_path / "r" / "growth.jsonl").read_text().splitlines()[0])
    assert event["units_added"] > 0
    assert event["kind"] == ("depth" if depth else "width")
    assert math.isfinite(event["function_change"])
    if method == "net2net":
        assert event["function_change_relative"] < 1e-5


@pytest.mark.slow
def test_a_growth_that_raised_the_bits_is_taken_back(grow: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    typed = ("growth.rollback=true", "growth.until=1", "optimizer.lr=0.5", "schedule=constant", "stop.steps=60")
    done = grow(
        "train",
        *SMALL,
        *typed,
        "method=random",
        "trigger=at",
        "trigger.steps=[20,40]",
        "method.warmup_steps=0",
        "run_dir=b",
    )
    assert done.code == 0, done.err
    events = [json.loads(line) for line in (tmp_path / "b" / "growth.jsonl").read_text().splitlines()]
    scores = {int(row["step"]): float(row["val_bits_per_byte"]) for row in rows(tmp_path / "b")}
    taken = [event["kind"] == "rollback" for event in events]
    assert taken == [False, scores[60] >= scores[20]]
    if taken[1]:
        assert events[1]["details"]["score_before"] == scores[20]
        assert events[1]["details"]["score_now"] == scores[60]


def test_every_command_works_on_a_text_run(grow: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    done = grow("train", *SMALL, "method=copy", *GROWING, "run_dir=r", "checkpoint.events=true")
    assert done.code == 0, done.err
    measured = grow("eval", "r", "--json")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert json.loads(measured.out)["test_bits_per_byte"] == pytest.approx(summary["test_bits_per_byte"], rel=1e-6)
    (tmp_path / "other.txt").write_text("for name in value: return name " * 100)
    other = grow("eval", "r", "--json", "dataset.root=other.txt")
    assert other.code == 0, other.err
    assert json.loads(other.out)["test_loss"] != summary["test_loss"]
    for kind in ("state_dict", "torch_export"):
        done = grow("export", "r", "--format", kind)
        assert done.code == 0, done.err
    assert grow("plot", "r").code == 0
    assert grow("report", "r").code == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "What the net writes" in page
    assert "step 20, before growing" in page
    assert "lower is better" in page


@pytest.mark.slow
def test_a_text_run_has_its_controls_at_equal_cost(grow: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    done = grow("train", *SMALL, "method=copy", *GROWING, "run_dir=r", "model.blocks=1")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    done = grow("controls", "r", "-j", "1")
    assert done.code == 0, done.err
    controls = {path.name for path in (tmp_path / "r" / "controls").iterdir()}
    assert {"static-steps", "static-flops", "static-parameters", "random-replay"} <= controls
    flops = json.loads((tmp_path / "r/controls/static-flops/summary.json").read_text())["training_flops"]
    assert flops == pytest.approx(summary["training_flops"], rel=0.02)


@pytest.mark.slow
def test_an_interrupted_text_run_ends_with_the_same_bits(
    grow: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    from grow_cli import testing

    grown = ("method=alether", *GROWING, "method.rank=1", "trajectory.window=3", "trajectory.every=4")
    typed = [*SMALL, *grown, f"dataset.root={corpus}"]
    typed = [o for o in typed if o != "dataset.root=corpus"]
    whole = testing._trained(tmp_path / "whole", typed)
    broken = testing._broken_and_resumed(tmp_path / "broken", typed, stop_at=1)
    assert testing._numbers(whole) == testing._numbers(broken)


@pytest.mark.slow
def test_a_sample_follows_the_net_the_seed_and_the_temperature(grow: Callable[..., Any], corpus: Path) -> None:
    assert grow("train", *SMALL, "method=static", "run_dir=r", "optimizer.lr=0.01").code == 0
    ask = ("sample", "r", "--prompt", "def ", "--length", "40")
    one, again, other = grow(*ask), grow(*ask), grow(*ask, "--seed", "1")
    assert one.code == 0
    assert one.out.startswith("def ")
    assert one.out == again.out != other.out
    greedy = grow(*ask, "--temperature", "0")
    assert greedy.out == grow(*ask, "--temperature", "0", "--seed", "3").out
    text = grow("sample", "r", "--prompt", "self " * 10, "--length", "5")  # longer than the context
    assert text.code == 0
    assert text.out.startswith("self self")


@pytest.mark.slow
def test_a_prompt_is_bytes_and_one_at_least(grow: Callable[..., Any], corpus: Path) -> None:
    from grow_cli.analysis.sampling import prompt_bytes
    from grow_cli.errors import UserError

    assert prompt_bytes("é\udcff") == "é".encode() + b"\xff"  # as a shell hands on a byte that is no UTF-8
    with pytest.raises(UserError, match="half of a surrogate pair and has no bytes"):
        prompt_bytes("a\ud800")
    with pytest.raises(UserError, match="at least one byte"):
        prompt_bytes("")
    assert grow("train", "method=static", "debug=fast", "stop.epochs=1", "run_dir=digits", "progress=off").code == 0
    refused = grow("sample", "digits", "--prompt", "def ")
    assert refused.code == 2
    assert "learned a classification and cannot write text: name a run with model=gpt" in refused.err


def test_a_run_is_not_resumed_on_a_corpus_that_changed(grow: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    assert grow("train", *SMALL, "method=static", "run_dir=r", "stop.steps=20").code == 0
    summary = tmp_path / "r" / "summary.json"
    summary.write_text(summary.read_text().replace('"finished"', '"interrupted"'))
    (corpus / "a.txt").write_text((corpus / "a.txt").read_text() + "more")
    for command in (("resume", "r"), ("eval", "r")):
        refused = grow(*command)
        assert refused.code == 2
        assert "is not what the net was trained on: the data have another corpus" in refused.err
