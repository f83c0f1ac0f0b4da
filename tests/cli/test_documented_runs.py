"""Every `grow` line of README and docs is run, as it is shown but for its length and the names that stand for a reader's own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_documented_commands import LINES, TRAIN, single

pytestmark = pytest.mark.slow

DATA = next(
    (
        p
        for p in (Path(os.environ.get("GROW_DATA_DIR", "nowhere")), Path(__file__).parents[3] / "shared" / "data")
        if p.is_dir()
    ),
    None,
)
# Of a training: so short that nothing but its beginning and its end is seen.
SHORT = (
    *(
        "stop.epochs=null",
        "stop.flops=null",
        "stop.seconds=null",
        "stop.steps=4",
        "evaluate.every=2",
        "evaluate.unit=steps",
    ),
    *("subset=64", "progress=off", "device=cpu", "precision=fp32", "threads=1"),
)
QUICK = ("subset=200", "stop.epochs=4", "progress=off", "threads=1")
GROWN = (*QUICK, "trigger=every", "trigger.every=1", "growth.neurons=2", "model=mlp", "model.hidden=[3,3]")
BRIEF = ("method=static", "stop.epochs=2", "progress=off")
# What a reader would have: how it is made.
RUNS = {
    "digits": ("method=tiny", "method.significance=false", *GROWN, "checkpoint.events=true"),
    "fold": ("experiment=fold_sines",),
    "text": ("dataset=text", "dataset.root=books", "dataset.context=16", "model=gpt", "model.dim=8", "model.heads=2", *BRIEF),
    "images": ("dataset=image_folder", "dataset.path=photos", "model=mlp", *BRIEF),
    "table": ("dataset=table", "dataset.path=labelled.csv", "dataset.target=kind", "model=mlp", *BRIEF),
    "arrays": ("dataset=arrays", "dataset.path=samples_y.npz", "model=mlp", *BRIEF),
    "blocks": ("method=copy", "model=residual_mlp", "model.hidden=[8,8]", "method.warmup_steps=2", *GROWN[:7]),
}  # fmt: skip
# Part of a line → the run that its RUN is.
OF = {
    "grow explain": "fold", "grow sample": "text", "dataset.measured": "text", "photo": "images", ".csv": "table",
    ".npz": "arrays", "blocks": "blocks",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reader's own files."""
    made = tmp_path_factory.mktemp("reader")
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(120, 3)).round(3)
    kind = np.where(x[:, 0] > 0, "up", "down")
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    table.assign(price=x[:, 1] * 3).to_csv(made / "houses.csv", index=False)
    table.assign(kind=kind).to_csv(made / "labelled.csv", index=False)
    table.to_csv(made / "new.csv", index=False)
    if find_spec("pyarrow"):
        table.assign(outcome=kind, name="x", id=range(120)).to_parquet(made / "patients.parquet")
    np.savez(made / "samples_y.npz", x=x, y=kind)
    np.savez(made / "samples.npz", x=x)
    for name in ("cat", "dog", "owl"):
        (made / "photos" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(drawn.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(made / "photos" / name / f"{i}.png")
    Image.fromarray(drawn.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(made / "photo.jpg")
    (made / "books").mkdir()
    (made / "books" / "one.txt").write_text(" ".join(f"word{i % 37}" for i in range(4000)))
    return made


@pytest.fixture(scope="module")
def known() -> dict[str, bool]:
    """Which of a reader's runs are made."""
    return {}


@pytest.fixture
def reader(
    place: Path, known: dict[str, bool], grow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """`grow` in that folder; `reader.run(NAME)` makes a run of it once."""
    monkeypatch.chdir(place)
    if DATA:
        monkeypatch.setenv("GROW_DATA_DIR", str(DATA))

    def run(name: str) -> str:
        if name not in known:
            sweep = ("-m", "method=tiny,gradmax", "seed=0,1,2,3,4", "model.activation=relu_right", *GROWN)
            for typed in {
                "outputs/mine": [(*sweep, "run_dir=outputs/mine")],
                "runs": [(*sweep, "run_dir=runs/a"), (*sweep, "dataset=moons", "run_dir=runs/b")],
            }.get(name, [(*RUNS.get(name, ()), f"run_dir={name}")]):
                made = grow("train", *typed)
                assert made.code == 0, made.err
            known[name] = True
        return name

    grow.run = run  # type: ignore[attr-defined]
    return grow


def run_of(line: str) -> str:
    return next((name for part, name in OF.items() if part in line), "digits")


def missing(line: str) -> str:
    """The package or the data that a line needs and that is not here."""
    for word, package in (
        ("sweep=ray", "ray"),
        ("huggingface", "datasets"),
        ("parquet", "pyarrow"),
        ("tune", "optuna"),
    ):
        if word in line and not find_spec(package):
            return package
    if "sweep=" in line and "sweep=local" not in line:
        return "a cluster"
    if "huggingface" in line or "cifar100" in line:
        return "a download"
    return "" if DATA or not ("mnist" in line or "cifar10" in line) else "the images"


@pytest.mark.parametrize("line", sorted(TRAIN))
def test_what_is_trained_trains(line: str, reader: Any) -> None:
    if missing(line):
        pytest.skip(f"needs {missing(line)}")
    typed = [
        word.replace("RUN", reader.run(run_of(line))) if "RUN" in word else word
        for word in single(shlex.split(line)[2:])
    ]
    kept = [word for word in typed if not word.startswith(("run_dir=", "data_dir=", "sweep="))]
    short = [
        word
        for word in SHORT
        if not (word.startswith("subset") and ("init=" in line or "functions" in line or "stages" in line))
    ]
    text = ["dataset.measured=1024"] if "gpt" in line or "stack_python" in line else []
    left = reader("train", *kept, *short, *text)
    assert left.code == 0, f"{TRAIN[line]}: {line}\n{left.err}"


@pytest.mark.parametrize("line", sorted(line for line in set(LINES) - set(TRAIN) if line.startswith("grow ")))
def test_other_lines_run(line: str, reader: Any) -> None:
    if missing(line):
        pytest.skip(f"needs {missing(line)}")
    words = shlex.split(line)[1:]
    several = dict.fromkeys(("RUNS", "SWEEP", "outputs/mine", "sw"), "outputs/mine") | {"runs": "runs"}
    own = [words[0], *(reader.run(several[word]) if word in several else word for word in words[1:])]
    own = [reader.run(run_of(line)) if word == "RUN" else word for word in own if word != "outputs/sweeps/..."]
    own = [
        "digits" if word == "r" or word.startswith("tiny/") else word.replace("stop.epochs=200", "stop.epochs=5")
        for word in own
    ]
    if "latest" in own:
        reader.run("digits")
    if words[0] in ("tune", "size"):
        own += [*QUICK, "trigger.every=1", "--seeds", "1"] + ["--trials", "2"] * (words[0] == "tune")
    left = reader(*own)
    over = left.code == 2 and "there is nothing to resume" in left.err
    undecided = left.code == 3 and "--until-decided" in line
    assert left.code == 0 or over or undecided, f"{LINES[line]}: {line}\n{left.err}{left.out[-500:]}"
