"""A user's mistake ends in one sentence with key, value and remedy, exit code 2, no traceback, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

# what is typed after `grow` → words that the sentence must hold
MISTAKES = {
    "train trigger=at": ["trigger=at needs the steps", "trigger.steps=[500,1000]"],
    "train method=static stop.parameters=10": ["stop.parameters=10", "before it is trained"],
    "train method=static model=cnn model.norm=batch batch_size=1": ["batch_size", "model.norm=none"],
    "train method=static model=mlp model.norm=batch subset=10 batch_size=1": ["batch_size", "model.norm=none"],
    "train trigger.steps=[80]": ["trigger=tau_kappa has no key steps", "which trigger=at has"],
    "train -m trigger=at,every trigger.steps=[80]": ["trigger.steps", "trigger=at"],
    "train trigger=at trigger.steps=80": ["must be a list", "trigger.steps=[80]"],
    "train seed=0,1": ["seed=0,1", "grow train -m"],
    "train growth.until=null": ["growth.until=null", "must have a value"],
    "train stop.flops=1000": ["stop.flops=1e+03", "less than one step"],
    "train stop.flops=0": ["stop.flops=0", "above 0"],
    "export": ["grow export needs a run folder"],
    "export nowhere": ["nowhere is not a run folder"],
    "export nowhere --format pytorch": ["--format pytorch", "state_dict, torch_export, onnx"],
    "report": ["grow report needs a run folder"],
    "report nowhere": ["nowhere holds no run"],
    "train metod=alether": ["metod", "method"],
    "train method=alehter": ["alehter", "did you mean alether"],
    "train method.ran=3": ["method", "ran", "did you mean rank"],
    "train method=static method.rank=3": ["method=static has no key rank", "none"],
    "train method.rank=3 method=copy": ["method=copy has no key rank", "warmup_steps"],
    "train model.layers=3": ["layers", "hidden"],
    "train +method.foo=1": ["method.foo", "not a key"],
    "train +foo=1": ["foo", "not a key"],
    "train +stop.foo=1": ["stop.foo", "not a key"],
    "train optimizer.lr=fast": ["optimizer.lr", "fast"],
    "train optimizer.lr=-1": ["optimizer.lr=-1", "above 0"],
    "train optimizer.lr=nan": ["optimizer.lr=nan"],
    "train trigger.patience=0": ["patience=0", "1"],
    "train trajectory.window=2": ["trajectory.window=2", "3"],
    "train trajectory.dtype=int4": ["trajectory.dtype=int4", "int8"],
    "train method=alether model=mlp": ["alether", "mlp", "residual_mlp"],
    "train method=copy model=cnn": ["copy", "cnn", "residual_cnn"],
    "train model.hidden=[]": ["block"],
    "train method=tiny growth.max_units=[1,2,3]": ["growth.max_units=[1, 2, 3]", "2 places", "hidden 2"],
    "train method=tiny growth.neurons=0": ["growth.neurons=0", "null"],
    "train method=tiny method.where=worst": ["method.where=worst", "best"],
    "train method=tiny method.samples=0": ["method.samples=0", "2 or more"],
    "train method=tiny method.rtol=1": ["method.rtol=1.0", "below 1"],
    "train method=tiny model=mlp model.hidden=[]": ["no hidden layer"],
    "train method=tiny model=mlp model.norm=layer": ["model.norm=layer", "model.norm=batch"],
    "train method=tiny method.train_by_growth=true method.best_update=false": ["train_by_growth", "best_update=true"],
    "train method=gradmax model=mlp": ["ReLU", "relu_right"],
    "train method=gradmax method.scale=0": ["method.scale=0.0"],
    "train method=net2net method.where=best": ["net2net", "method.where=all"],
    "train method=random method.grow=up": ["method.grow=up", "width"],
    "train method=static model=resnet18": ["16", "8 x 8"],
    "train dataset=python": ["model=residual_mlp cannot predict text", "model=gpt"],
    "train method=static model=gpt": ["model=gpt predicts the next byte", "dataset=digits", "dataset=python"],
    "train dataset=text method=static model=gpt": ["dataset=text needs dataset.root"],
    "train dataset=text dataset.root=nowhere method=static model=gpt": ["dataset.root=", "nowhere", "no such file"],
    "train dataset=text dataset.root=. method=static model=gpt": ["no file in it matches dataset.pattern='*.txt'"],
    "train dataset=python dataset.context=10000000 method=static model=gpt": [
        "dataset.context=10000000",
        "must be from 1 to",
    ],
    "train dataset=python dataset.context=1000000 method=static model=gpt": [
        "dataset.context=1000000",
        "give more text",
    ],
    "train dataset=python dataset.crop=2 method=static model=gpt": ["dataset.crop=2", "no pixels"],
    "train dataset=python method=static model=gpt model.heads=7": ["model.heads=7", "must divide model.dim=64"],
    "train dataset=python method=static model=gpt model.blocks=-1": ["model.blocks=-1", "from 0 to 1,000"],
    "train dataset=python method=static model=gpt model.blocks=1 model.mlp=[4,4]": ["model.blocks=1", "leave one"],
    "train dataset=python method=copy model=gpt model.blocks=0": ["method=copy needs a block", "model=gpt"],
    "train dataset=python method=fold model=gpt": ["method=fold", "model=gpt"],
    "train dataset=python method=senn model=gpt": ["method=senn", "model=gpt"],
    "train dataset=python method=senn": ["model=mlp cannot predict text", "use model=gpt"],
    "train dataset=python method=static model=gpt label_smoothing=0.1": ["label_smoothing=0.1", "bits per byte"],
    "train dataset=python method=static model=gpt optimizer=natural": ["optimizer=natural", "optimizer=adam"],
    "train dataset=python method=static model=gpt stop.val_score=-1": ["stop.val_score=-1", "above 0"],
    "sample": ["grow sample needs a run folder"],
    "sample nowhere": ["--prompt"],
    "sample nowhere --prompt a": ["nowhere is not a run folder"],
    "sample nowhere --prompt a --length 0": ["--length 0", "from 1"],
    "sample nowhere --prompt a --temperature -1": ["--temperature -1", "0 or more"],
    "sample nowhere --prompt a --seed -1": ["--seed -1", "from 0"],
    "train model.hidden=[64,x]": ["hidden", "x"],
    "train seed=abc": ["seed", "abc", "Integer"],
    "train model.hidden=64": ["model.hidden", "64"],
    "train stop.epochs=0.5": ["stop.epochs", "0.5", "Integer"],
    "train method=null": ["group", "null"],
    "train --method=static": ["no dashes", "type method=static"],
    "train dataset=curve label_smoothing=0.1": ["label_smoothing=0.1", "curve"],
    "resume": ["needs a run folder"],
    "train batch_size=0": ["batch_size=0"],
    "train subset=0": ["subset=0"],
    "train subset=1000000": ["1000000"],
    "train device=cuda:99": ["device=cuda:99"],
    "train device=gpu": ["device=gpu", "cuda"],
    "train precision=fp16": ["precision=fp16", "bf16"],
    "train stop.epochs=null": ["stop.epochs", "budget"],
    "train stop.epochs=-3": ["stop.epochs=-3"],
    "train --cfg job experiment=tiny_cifar10 schedule=constant": ["sets schedule.floor, which schedule=constant"],
    "train experiment=senn_mnist method=fold": ["experiment=senn_mnist sets method.", "method=fold does not"],
    "train stop.val_score=97": ["stop.val_score=97", "0.97"],
    "train stop.val_accuracy=0.97": ["stop has no key val_accuracy", "val_score"],
    "train dataset.validation=1.5": ["validation=1.5"],
    "train dataset.scale=0": ["dataset.scale=0", "above 0"],
    "train dataset=mnist data_dir=nowhere": ["nowhere"],
    "train dataset=image_folder dataset.path=nowhere": ["nowhere"],
    "train trigger=every trigger.unit=hours": ["hours", "seconds"],
    "train schedule=one_cycle schedule.rise=2": ["schedule.rise=2"],
    "train optimizer=sgd optimizer.momentum=0": ["nesterov"],
    "train trigger=any ~trigger.of.tau_kappa ~trigger.of.plateau": ["trigger=any", "no triggers"],
    "train trigger=any trigger.of.plateau=every": ["trigger.of.plateau=every", "+trigger@trigger.of.plateau=OPTION"],
    "train seed": ["KEY=VALUE"],
    "train seed = 3": ["spaces around =", "type seed=3"],
    "train seed= 3": ["spaces around =", "type seed=3"],
    "train --seed 3": ["no dashes", "type seed=3"],
    "train -seed=3": ["no dashes", "type seed=3"],
    "train --lr 0.1": ["no dashes", "type optimizer.lr=0.1"],
    "train seed:3": ["joined by =", "type seed=3"],
    "train model.hidden=[64, 64]": ["one word", "type 'model.hidden=[64,64]'"],
    "train model.hidden=[64 64]": ["one word", "type 'model.hidden=[64,64]'"],
    "train model.hidden=[ 64 , 64 ]": ["one word", "type 'model.hidden=[64,64]'"],
    "train stop=epochs:3 stop=steps:9": ["braces", "type stop.epochs=3 stop.steps=9"],
    "train lr=0.1 epochs=3": ["lr is not a key", "did you mean optimizer.lr=0.1?"],
    "train trigger.every=10 trigger=adf": [
        "trigger=adf has no key every, which trigger=eta or trigger=every has",
        "window",
    ],
    "train seed=range(3)": ["grow train -m 'seed=range(3)'"],
    "train dataset=foo": [
        "dataset=foo",
        "digits",
        "table",
        "arrays",
        "dataset=image_folder dataset.path=DIR",
        "dataset=huggingface dataset.path=DIR_OR_NAME",
        "dataset=text dataset.root=DIR model=gpt",
    ],
    "size seed = 3": ["type seed=3"],
    "tune seed = 3": ["type seed=3"],
    "tune lr = 0.1": ["type optimizer.lr=0.1"],
    "list lr": ["neither a config group nor a key", "grow list optimizer.lr"],
    "list method=tny": ["tny", "did you mean tiny"],
    "list foo=tiny": ["foo", "method"],
    "train seed=[1": ["seed=[1"],
    "train -m sweep=nowhere": ["sweep=nowhere does not exist", "joblib", "ray", "slurm"],
    "train -m hydra/launcher=nowhere": ["hydra/launcher=nowhere does not exist", "basic", "joblib"],
    "train -m hydra/launcher=ray": ["type sweep=ray instead"],
    "train -m sweep=ray hydra.launcher.ray.remote.num_gpus=0.5": ["no launcher", "type sweep.gpus=0.5"],
    "train -m sweep=ray hydra.launcher.ray.init.log_to_driver=false": ["leave it out, or use sweep.address"],
    "train -m sweep=optuna": ["`grow tune`", "--space"],
    "train -m hydra/sweeper=optuna": ["`grow tune`"],
    "train sweep.resources={GPU:1}": ["sweep.resources={GPU: 1}", "sweep.gpus"],
    "train sweep.resources={big:-1}": ["sweep.resources={big: -1}: must be above 0"],
    "train -m --cfg job": ["--cfg"],
    "tarin": ["tarin", "did you mean `grow train`"],
    "method=alether": ["did you mean `grow train method=alether`"],
    "eval nowhere": ["nowhere", "not a run folder"],
    "resume nowhere": ["nowhere", "not a run folder"],
    "compare --agianst x": ["--agianst", "grow compare --help"],
    "controls . --jobs many": ["many", "grow controls --help"],
    "plot . --widht": ["--widht", "grow plot --help"],
    "list metods": ["metods", "method"],
    "completion tcsh": ["bash"],
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_answered_by_one_sentence(typed: str, grow: Callable, tmp_path: Path) -> None:
    outcome = grow(*typed.split())
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.strip().splitlines()) == 1, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for word in MISTAKES[typed]:
        assert word in outcome.err
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert written == [], "nothing is left behind"


def test_the_traceback_is_shown_when_asked_for(grow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROW_DEBUG", "1")
    assert "Traceback" in grow("train", "batch_size=0").err


@pytest.mark.slow
def test_rank_at_the_window_is_a_warning_and_training_goes_on(grow: Callable, small: tuple[str, ...]) -> None:
    outcome = grow("train", *small, "method.rank=9", "stop.epochs=1")
    assert outcome.code == 0
    assert "warning" in outcome.err
    assert "method.rank=9" in outcome.err


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    assert grow("train", *small, "run_dir=r", "stop.epochs=1").code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    outcome = grow("train", *small, "run_dir=r", "stop.epochs=2")
    assert outcome.code == 2
    assert "not overwritten" in outcome.err
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()} == before
    assert "nothing to resume" in grow("resume", "r").err


def test_a_folder_that_cannot_be_written_is_a_sentence(grow: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = grow("train", "run_dir=file/run")
    assert outcome.code == 2
    assert "cannot be written" in outcome.err
    assert "run_dir" in outcome.err


def test_an_infinite_loss_stops_the_run_as_failed(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> None:
    import json

    import torch

    typed = [o for o in small if not o.startswith("method.")]
    outcome = grow("train", *typed, "run_dir=r", "optimizer=sgd", "optimizer.lr=1e30", "method=static")
    assert outcome.code == 1
    assert "no longer finite" in outcome.err
    assert "optimizer.lr" in outcome.err
    assert json.loads((tmp_path / "r/summary.json").read_text())["status"] == "failed"
    state = torch.load(tmp_path / "r/checkpoints/last.pt", weights_only=True)
    assert all(torch.isfinite(t).all() for t in state["model"].values())


@pytest.fixture
def run_folder(grow: Callable, small: tuple[str, ...], tmp_path: Path) -> Path:
    """A finished run with a growth event."""
    assert grow("train", *small, "run_dir=r", "stop.epochs=7").code == 0
    return tmp_path / "r"


@pytest.mark.slow
def test_damaged_run_folders_are_sentences(run_folder: Path, grow: Callable) -> None:
    checkpoint = run_folder / "checkpoints" / "last.pt"
    whole = checkpoint.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"garbage" * 100):
        checkpoint.write_bytes(damage)
        outcome = grow("eval", run_folder)
        assert (outcome.code, "truncated or damaged" in outcome.err) == (2, True)
    import torch

    checkpoint.write_bytes(whole)
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"format": 99}, checkpoint)
    outcome = grow("eval", run_folder)
    assert (outcome.code, "format 99" in outcome.err) == (2, True)
    checkpoint.unlink()
    outcome = grow("eval", run_folder)
    assert (outcome.code, "no checkpoint" in outcome.err) == (2, True)
    config = run_folder / ".hydra" / "config.yaml"
    text = config.read_text()
    for damage, words in (
        ("a: [", "damaged"),
        (text.replace("name: alether", "name: unheard"), "unheard"),
        (text.replace("batch_size: 32", "batch_size: many"), "many"),
        (text + "surplus: 1\n", "surplus"),
    ):
        config.write_text(damage)
        outcome = grow("eval", run_folder)
        assert (outcome.code, words in outcome.err) == (2, True), outcome.err
        assert "Traceback" not in outcome.err


def test_a_checkpoint_cannot_run_code(run_folder: Path, grow: Callable) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path("owned"),))  # type: ignore[return-value]

    (run_folder / "checkpoints" / "last.pt").write_bytes(pickle.dumps({"format": 1, "model": Evil()}))
    assert grow("eval", run_folder).code == 2
    assert not (run_folder.parent / "owned").exists()
