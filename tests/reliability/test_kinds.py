"""Faults that the fuzzer has found: a small test of each kind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import torch

from grow_cli import schema
from grow_cli.commands.sweep import Tally, one_at_a_time, remove_spools
from grow_cli.commands.train import compose
from grow_cli.data.identity import check_plain
from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import read_metrics
from grow_cli.records.pictures import render
from grow_cli.records.reading import Damaged
from grow_cli.records.summary import read_summary
from grow_cli.schema import make_absolute
from grow_cli.training import checkpoint

SHORT = ("subset=60", "stop.steps=2", "evaluate.every=1", "evaluate.unit=steps", "progress=off", "method=static")


@pytest.mark.parametrize("key", ["clip_norm", "optimizer.lr", "dataset.validation", "stop.epochs", "model.activation"])
def test_an_interpolation_that_leads_nowhere_is_one_line_that_names_the_key(key: str) -> None:
    with pytest.raises(UserError) as refused:
        compose([*SHORT, "model=mlp_tiny", f"{key}=${{nothing}}"])
    assert str(refused.value) == f"{key}: Interpolation key 'nothing' not found"


@pytest.mark.slow
def test_text_and_numbers_that_an_interpolation_gives_to_a_list_or_to_numbers_by_name_are_refused() -> None:
    several = [
        f"{section}.{f.name}"
        for section, cls in schema.sections().items()
        for f in fields(cls)
        if {get_origin(kind) for kind in (get_type_hints(cls)[f.name], *get_args(get_type_hints(cls)[f.name]))}
        & {list, dict}
    ]
    assert {"growth.max_units", "sweep.resources", "sweep.options"} <= set(several)
    for key in (*several, "tuned", "model.hidden"):
        for held, value in (("label", "'text'"), ("seed", "7"), ("compile", "True")):
            with pytest.raises(UserError, match=rf"^(\w+: .*)?{re.escape(key)}={value}: must be "):
                compose([*SHORT, "model=mlp_tiny", "label=text", "seed=7", "compile=true", f"{key}=${{{held}}}"])


@pytest.mark.parametrize(
    "data",
    [3, "x", [1], {"hash": 3}, {"counts": 3}, {"counts": {"train": "x"}}, {"classes": [None]}, {"input_shape": "ab"}],
)
def test_what_a_checkpoint_says_of_its_data_is_read_as_such_or_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"^data"):
        check_plain(data)
    check_plain({})


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_sentence_in_a_sweep(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with (
        pytest.raises(UserError, match=r"cannot be locked .*choose a run_dir on another file system"),
        one_at_a_time(tmp_path),
    ):
        raise AssertionError("a job would be looked for without a lock")


def test_the_counts_of_a_dead_sweep_are_removed_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": []}}})
    living, dead = Tally(), Tally()
    for tally in (living, dead):
        tally.on_multirun_start(config)
    assert dead._held is not None
    os.close(dead._held)  # as its end does, however it came
    dead._held = None
    remove_spools(tmp_path)
    assert list(tmp_path.glob(".jobs-*")) == [living._spool()]
    assert living.collect() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        ("runs", "{here}/runs"),
        ("sqlite:///a.db", "sqlite:///{here}/a.db"),
        ("sqlite:////a.db", "sqlite:////a.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("databricks", "databricks"),
    ],
)
def test_where_a_logger_writes_is_recorded_from_the_root_on(
    typed: str, recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grow_cli.commands.composition import composed

    monkeypatch.chdir(tmp_path)
    raw = composed([*SHORT, "logger=mlflow", f"logger.tracking_uri='{typed}'"])
    make_absolute(raw)
    assert raw.logger.tracking_uri == recorded.format(here=tmp_path)


@pytest.mark.parametrize("model", ["mlp", "residual_mlp", "cnn", "residual_cnn"])
def test_a_list_of_sizes_that_would_take_minutes_to_build_is_refused_before_anything_is_built(model: str) -> None:
    with pytest.raises(UserError, match=r"model\.hidden has 3,000 entries: give at most 1,000"):
        compose([*SHORT, f"model={model}", f"model.hidden=[{','.join(['1'] * 3000)}]"])


@pytest.mark.parametrize("typed", ["clip_norm=1e300", "optimizer.lr=-1e39", "model.dropout=3.5e38"])
def test_a_number_that_float32_does_not_hold_is_refused_by_any_key(typed: str) -> None:
    with pytest.raises(UserError, match=r"must be a number up to 3\.4e38, the largest of float32"):
        compose([*SHORT, "model=mlp_tiny", typed])


@pytest.mark.parametrize("typed", ["stop.flops=5e-324", "optimizer.lr=1e-40", "clip_norm=-1e-45"])
def test_a_number_that_is_flushed_to_0_is_refused_by_any_key(typed: str) -> None:
    with pytest.raises(UserError, match=r"must be a number from 1\.2e-38 on"):
        compose([*SHORT, "model=mlp_tiny", typed])


@pytest.mark.parametrize(
    "typed", ["method.blocks=2147483647", "method.factor=2147483647", "method.warmup_steps=2147483647"]
)
def test_an_event_that_would_take_for_ever_is_refused(typed: str) -> None:
    with pytest.raises(UserError, match="must be from"):
        compose([*SHORT[:-1], "method=deepen", typed])


@pytest.mark.parametrize("name", ["mean", "std"])
def test_statistics_of_other_inputs_are_no_checkpoint(name: str, grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *SHORT, "run_dir=r").code == 0
    file = tmp_path / "r/checkpoints/last.pt"
    state = torch.load(file, weights_only=True)
    state["inputs"][name] = state["inputs"][name][:, :-1]
    torch.save(state, file)
    left = grow("eval", "r")
    assert left.code == 2
    assert "inputs are not what a dataset gives" in left.err


def test_a_field_that_a_checkpoints_progress_lacks_is_named(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", *SHORT, "run_dir=r").code == 0
    file = tmp_path / "r/checkpoints/last.pt"
    state = torch.load(file, weights_only=True)
    del state["progress"]["threads"]
    torch.save(state, file)
    left = grow("eval", "r")
    assert left.code == 2
    assert "last.pt is damaged (its progress has no threads)" in left.err
    with pytest.raises(Damaged, match="its progress has no threads"):  # whoever else looks for it
        checkpoint.load(file)


@pytest.mark.parametrize("data", ["x", {"corpus": 3}], ids=["a text", "a corpus that is a number"])
def test_a_summary_whose_data_are_of_another_kind_is_damaged(data: Any, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished", "data": data}))
    with pytest.raises(Damaged, match="data"):
        read_summary(tmp_path / "summary.json", tmp_path)


def test_a_picture_whose_labels_leave_no_room_is_drawn_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), layout="constrained")
    figure.subplots().set_ylabel("wide", fontsize=300)
    render(figure, tmp_path / "p.png", "png", 50)
    assert "leave its axes no room" in capsys.readouterr().err
    assert (tmp_path / "p.png").exists()


@pytest.mark.slow
def test_a_mapping_that_is_set_as_a_whole_is_taken_or_answered(grow: Callable) -> None:
    left = grow("train", "--cfg", "job", "tuned={a:1}")
    assert left.code == 2
    assert left.err.startswith("error: ")


def test_numbers_by_names_of_ones_own_are_taken_as_they_are_shown() -> None:
    assert compose([*SHORT, "sweep.resources={big_memory:1}"]).sweep.resources == {"big_memory": 1.0}
    with pytest.raises(UserError, match=r"sweep\.resources=\{GPU: 1\}: must be above 0"):
        compose([*SHORT, "sweep.resources={GPU:1}"])


def test_a_checkpoint_whose_images_were_prepared_by_no_known_means_is_damaged(grow: Callable) -> None:
    assert grow("train", *SHORT, "run_dir=run").code == 0
    path = Path("run/checkpoints/last.pt")
    state = torch.load(path, weights_only=True)
    state["inputs"]["image"] = torch.zeros(2, 2)
    torch.save(state, path)
    left = grow("export", "run")
    assert left.code == 2
    assert "last.pt is damaged (TypeError: inputs are not what a dataset gives)" in " ".join(left.err.split())


def test_a_step_that_torch_would_not_take_is_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"method\.step=1e\+300: must be a number up to 3\.4e38"):
        compose([*SHORT[:-1], "method=senn", "method.step=1e300"])


def test_sgd_at_its_default_rate_lowers_the_loss_of_the_curve(grow: Callable) -> None:
    import pandas as pd

    typed = ("dataset=curve", "model=mlp_tiny", "method=static", "optimizer=sgd", "stop.epochs=20", "progress=off")
    assert grow("train", *typed, "run_dir=run").code == 0
    losses = pd.read_csv("run/metrics.csv").val_loss
    assert losses.iloc[-1] < losses.iloc[0]


def test_a_run_whose_time_was_over_before_its_first_step_says_what_to_raise(grow: Callable) -> None:
    ended = grow(
        "train", "method=tiny", "subset=60", "stop.epochs=1", "stop.seconds=1e-8", "run_dir=run", "progress=off"
    )
    assert ended.code == 0, ended.err
    assert "Train longer: raise the limit at which it stopped." in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("val_accuracy", "inf"),
        ("val_accuracy", "-0.1"),
        ("test_r2", "1.5"),
        ("val_bits_per_byte", "-inf"),
        ("val_loss", "-1"),
    ],
)
def test_a_score_that_no_net_can_have_is_a_damaged_file(name: str, cell: str, tmp_path: Path) -> None:
    def written(cell: str) -> RunFolder:
        row = {"step": 1, "epoch": 1, "seconds": 1, "flops": 1, "parameters": 1, "val_accuracy": 0.5, name: cell}
        (tmp_path / "metrics.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
        return RunFolder(tmp_path)

    with pytest.raises(Damaged, match=rf"metrics.csv.*line 2.*{name} is '{cell}'"):
        read_metrics(written(cell))
    for fine in ("0.25", "nan", ""):
        assert len(read_metrics(written(fine))) == 1
