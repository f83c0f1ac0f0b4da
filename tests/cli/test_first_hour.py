"""A stranger's hour: from the wheel in an empty environment to one's own data, predictions, and a net used without grow.

The environment sees the packages of this one, but for grow itself, so that it is there in seconds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
A_MINUTE = 60
FORMATS = (".png", ".jpg", ".bmp", ".gif", ".tiff", ".webp")
GROWING = (
    "method=tiny",
    "model=mlp_tiny",
    "stop.epochs=40",
    "optimizer.lr=1e-2",
    "evaluate.every=5",
    "trigger.every=10",
)
SHARED = ("growth.max_events=2", "progress=lines", "threads=1")

# Without grow: what was exported, from its own folder, with nothing of grow on the path.
WITHOUT = """
import importlib.util, json, sys
assert importlib.util.find_spec("grow_cli") is None, "grow can be imported"
import torch
torch.set_num_threads(1)
found = importlib.util.spec_from_file_location("model", "code/model.py")
model = importlib.util.module_from_spec(found)
found.loader.exec_module(model)
asked = json.load(open("asked.json"))
if "files" in asked:
    inputs = [model.read(file) for file in asked["files"]]
elif "rows" in asked:
    inputs = [model.encode(asked["rows"])]
else:
    inputs = [torch.tensor(asked["x"])]
graph = torch.export.load("net.pt2").module()
answers = {}
with torch.no_grad():
    net = model.load()
    for name, forward in {"model.py": lambda x: net(model.prepare(x)), "torch_export": graph}.items():
        outputs = torch.cat([forward(x) for x in inputs])
        if asked["task"] == "regression":
            answers[name] = model.values(outputs).flatten().tolist()
        else:
            chances, best = outputs.softmax(1).max(1)
            answers[name] = [[model.CLASSES[i], p] for i, p in zip(best.tolist(), chances.tolist())]
print(json.dumps(answers))
"""


class Stranger:
    """Types commands in an environment and a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.home.mkdir()
        self.environment, self.bare = root / "env", root / "bare"
        self.seconds: dict[str, float] = {}
        kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_FIND_LINKS")
        self.variables = {name: os.environ[name] for name in kept if name in os.environ}
        self.variables |= {"HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def run(self, step: str, *command: str | Path) -> str:
        """What a command prints to stdout; it must succeed, and within a minute of processor time.

        That is what a step takes on a machine that does nothing else; beside other work the clock on the wall goes on.
        """
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.home, env=self.variables, capture_output=True, text=True, timeout=10 * A_MINUTE,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds[step] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert done.returncode == 0, f"{step}: {done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, step
        assert self.seconds[step] < A_MINUTE, f"{step} took {self.seconds[step]:.0f} s"
        return done.stdout

    def grow(self, *arguments: str | Path) -> str:
        return self.run(" ".join(map(str, arguments))[:60], self.environment / "bin" / "grow", *arguments)

    def predicted(self, *arguments: str | Path) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.grow("predict", *arguments, "--json"))
        return found

    def without_grow(self, run: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Exports a run's net in both formats, and answers with each where grow cannot be imported."""
        place = self.home / f"use of {run}"
        place.mkdir()
        self.grow("export", run, "-o", place / "code")
        self.grow("export", run, "--format", "torch_export", "-o", place / "net.pt2")
        (place / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        code = f"import os; os.chdir({str(place)!r})\n{WITHOUT}"
        found: dict[str, Any] = json.loads(self.run(f"use {run}", self.bare / "bin" / "python", "-P", "-c", code))
        return found


def make_environment(place: Path) -> None:
    """An empty one; it sees the packages of this one, but for grow itself."""
    venv.create(place, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    seen = site.parent / "packages of the tests"
    seen.mkdir()
    for one in Path(sysconfig.get_path("purelib")).iterdir():
        if not one.name.startswith(("grow_cli", "_grow_cli", "__editable__", "_editable")):
            (seen / one.name).symlink_to(one)
    (site / "seen.pth").write_text(f"{seen}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """The wheel is built, and installed into an empty environment; a second one has all but grow."""
    root = tmp_path_factory.mktemp("hour")
    who = Stranger(root)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = root.glob("*.whl")
    make_environment(who.environment)
    pip = [sys.executable, "-m", "pip", "--python", who.environment / "bin" / "python", "install", "--quiet"]
    who.run("install", *pip, "--disable-pip-version-check", "--no-deps", "--no-index", wheel)
    make_environment(who.bare)
    return who


def images(folder: Path, each: int) -> Path:
    """`<class>/*` of six formats: in colours, grey, transparent, and turned by EXIF; of several sizes."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 180)):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            suffix = FORMATS[i % len(FORMATS)]
            mode = ("RGB", "RGBA", "L")[i // len(FORMATS) % 3]
            pixels = rng.integers(low, low + 60, (12 + i % 5, 16, 4), np.uint8)
            pixels[..., 3] = rng.integers(200, 256, pixels.shape[:2])
            image = Image.fromarray(pixels, "RGBA").convert("RGB" if suffix == ".jpg" and mode == "RGBA" else mode)
            exif = image.getexif()
            exif[0x0112] = 1 + i % 8
            turned = {"exif": exif} if suffix in (".jpg", ".webp", ".png") else {}
            image.save(folder / name / f"{i:02}{suffix}", **turned)
    return folder


def agree(found: list[Any], wanted: list[dict[str, Any]], where: str) -> None:
    assert len(found) == len(wanted), where
    for (name, chance), row in zip(found, wanted, strict=True):
        assert (name, chance) == (row["class"], pytest.approx(row["probability"], abs=1e-4)), (where, row["sample"])


def test_grow_is_the_wheels_and_nothing_of_the_checkout(stranger: Stranger) -> None:
    code = "import grow_cli, pathlib; print(pathlib.Path(grow_cli.__file__).resolve())"
    found = stranger.run("where", stranger.environment / "bin" / "python", "-P", "-c", code).strip()
    assert Path(found).is_relative_to(stranger.environment.resolve())
    assert "tiny" in stranger.grow("list", "method")


def test_a_table_is_trained_on_predicted_measured_exported_and_used_without_grow(stranger: Stranger) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": rng.integers(1, 8, 240), "town": rng.choice(["Bern", "Chur"], 240)})
    table["price"] = (100_000 * table["rooms"] + 50_000 * (table["town"] == "Bern") + rng.normal(0, 9000, 240)).round(1)
    table.loc[3, "rooms"] = np.nan
    table.to_csv(stranger.home / "houses.csv", index=False)
    new = table.drop(columns="price").head(20).assign(town=["Bern", "Rom", None, "Chur"] * 5)
    new.to_csv(stranger.home / "new.csv", index=False)
    stranger.grow(
        "train", "dataset=table", "dataset.path=houses.csv", "dataset.target=price", *GROWING, *SHARED, "run_dir=table"
    )
    wanted = [row["value"] for row in stranger.predicted("table", "new.csv")]
    assert len(wanted) == 20
    assert json.loads(stranger.grow("eval", "table", "--on", "houses.csv", "--json"))["r2"] > 0.9
    rows = json.loads(new.to_json(orient="records"))
    for name, values in stranger.without_grow("table", {"task": "regression", "rows": rows}).items():
        assert values == pytest.approx(wanted, rel=1e-4), name


def test_a_folder_of_mixed_images_is_used_the_same_way_in_the_command_in_python_and_without_grow(
    stranger: Stranger,
) -> None:
    folder = images(stranger.home / "photos", 36)
    stranger.grow(
        "train", "dataset=image_folder", "dataset.path=photos", "dataset.size=8", *GROWING, *SHARED, "run_dir=images"
    )
    measured = json.loads(stranger.grow("eval", "images", "--on", "photos", "--json"))
    assert (measured["samples"], measured["accuracy"] > 0.9) == (72, True)
    wanted = stranger.predicted("images", "photos")
    names = [row["sample"] for row in wanted]
    assert len(names) >= 20
    assert {Path(name).suffix for name in names} == set(FORMATS)
    asked = {"task": "classification", "files": [str(folder / name) for name in names]}
    answers = stranger.without_grow("images", asked)
    for name, found in answers.items():
        agree(found, wanted, name)
    code = (
        "import json, sys, torch; sys.path.insert(0, 'use of images/code'); import grow_cli, model\n"
        "run, files = grow_cli.load('images'), json.load(open('use of images/asked.json'))['files']\n"
        "x = torch.cat([model.read(file) for file in files])\n"
        "print(json.dumps([[str(name), float(p.max())] for name, p in zip(run.predict(x), run.predict_proba(x))]))"
    )
    agree(json.loads(stranger.run("Run.predict", stranger.environment / "bin" / "python", "-c", code)), wanted, "Run")


def test_arrays_are_trained_on_and_used_without_grow(stranger: Stranger) -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.savez(stranger.home / "all.npz", x=x, y=np.where(x[:, 0] + x[:, 1] > 0, "more", "less"))
    np.save(stranger.home / "new.npy", x[:20])
    stranger.grow("train", "dataset=arrays", "dataset.path=all.npz", *GROWING, *SHARED, "run_dir=arrays")
    wanted = stranger.predicted("arrays", "new.npy")
    assert json.loads(stranger.grow("eval", "arrays", "--on", "all.npz", "--json"))["accuracy"] > 0.9
    for name, found in stranger.without_grow("arrays", {"task": "classification", "x": x[:20].tolist()}).items():
        agree(found, wanted, name)


def test_runs_are_told_apart_and_reported(stranger: Stranger) -> None:
    for seed in (1, 2):
        stranger.grow("train", *GROWING, "subset=300", *SHARED, f"seed={seed}", f"run_dir=seed{seed}")
    assert "seed" in stranger.grow("diff", "seed1", "seed2")
    stranger.grow("resume", "seed2", "stop.epochs=44")
    assert json.loads((stranger.home / "seed2" / "summary.json").read_text())["epochs"] == 44
    stranger.grow("report", "seed1")
    page = (stranger.home / "seed1" / "report.html").read_text(encoding="utf-8")
    assert "<html" in page


def test_every_step_took_less_than_a_minute(stranger: Stranger) -> None:
    slow = {step: round(s) for step, s in stranger.seconds.items() if s >= A_MINUTE}
    assert stranger.seconds
    assert not slow
