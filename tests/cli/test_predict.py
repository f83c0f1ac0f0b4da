"""`grow predict` and `grow eval --on`: a net is used on files as it was trained, by the command alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from grow_cli import cli

REPOSITORY = Path(__file__).resolve().parents[2]
FAST = ("method=static", "model=mlp", "model.hidden=[8]", "stop.epochs=60", "progress=off", "threads=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of a table with classes, of one with a quantity, of images, and of arrays."""
    root = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=80), "town": rng.choice(["x", "y"], 80)})
    table["kind"] = np.where(table["a"] > 0, "up", "down")
    table["price"] = 1000 * table["a"] + 5000
    table.to_csv(root / "table.csv", index=False)
    for name, low in (("dark", 0), ("light", 200)):
        (root / "img" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(low, low + 50, (6, 8, 3), np.uint8)).save(root / "img" / name / f"{i}.png")
    x = rng.normal(size=(60, 3)).astype(np.float32)
    np.savez(root / "a.npz", x=x, y=np.where(x[:, 0] > 0, 7, 3))
    for name, overrides in {
        "classes": ("dataset=table", f"dataset.path={root}/table.csv", "dataset.target=kind", "dataset.drop=[price]"),
        "quantity": ("dataset=table", f"dataset.path={root}/table.csv", "dataset.target=price", "dataset.drop=[kind]"),
        "images": ("dataset=image_folder", f"dataset.path={root}/img", "dataset.size=6"),
        "arrays": ("dataset=arrays", f"dataset.path={root}/a.npz"),
    }.items():
        with pytest.raises(SystemExit) as left:
            cli.main(["train", *overrides, *FAST, "optimizer.lr=3e-2", f"run_dir={root}/{name}"])
        assert not left.value.code, name
    return root


def predicted(grow: Callable, *arguments: object) -> list[dict[str, Any]]:
    left = grow("predict", *arguments, "--json")
    assert left.code == 0, left.err
    found: list[dict[str, Any]] = json.loads(left.out)
    return found


def test_each_row_of_a_table_gets_a_class_and_its_probability(runs: Path, grow: Callable) -> None:
    found = predicted(grow, runs / "classes", runs / "table.csv")
    truth = pd.read_csv(runs / "table.csv")["kind"].tolist()
    assert np.mean([row["class"] == kind for row, kind in zip(found, truth, strict=True)]) > 0.9
    assert [row["sample"] for row in found[:2]] == ["1", "2"]
    assert all(0.5 <= row["probability"] <= 1 for row in found)


def test_predictions_are_what_eval_measures(runs: Path, grow: Callable) -> None:
    found = predicted(grow, runs / "classes", runs / "table.csv")
    truth = pd.read_csv(runs / "table.csv")["kind"].tolist()
    measured = json.loads(grow("eval", runs / "classes", "--on", runs / "table.csv", "--json").out)
    assert measured["accuracy"] == np.mean([row["class"] == kind for row, kind in zip(found, truth, strict=True)])
    whole = json.loads(grow("eval", runs / "classes", "--json").out)
    parts = {"train": 58, "val": 6, "test": 16}
    assert measured["accuracy"] == pytest.approx(sum(n * whole[f"{part}_accuracy"] for part, n in parts.items()) / 80)


def test_a_quantity_is_given_in_its_own_unit(runs: Path, grow: Callable) -> None:
    found = [row["value"] for row in predicted(grow, runs / "quantity", runs / "table.csv")]
    truth = pd.read_csv(runs / "table.csv")["price"]
    assert np.corrcoef(found, truth)[0, 1] > 0.9
    measured = json.loads(grow("eval", runs / "quantity", "--on", runs / "table.csv", "--json").out)
    assert measured["root_mean_square_error"] == pytest.approx(float(np.sqrt(((np.array(found) - truth) ** 2).mean())))


def test_standard_input_is_a_table(runs: Path, grow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("town,a\nx,2\nz,-2\n"))
    left = grow("predict", runs / "classes", "-", "--csv")
    assert [line.split(",")[:2] for line in left.out.splitlines()] == [["sample", "class"], ["1", "up"], ["2", "down"]]
    assert "town has values that do not occur in the training data (z)" in left.err


def test_images_are_files_and_folders_fitted_as_in_training(runs: Path, grow: Callable, tmp_path: Path) -> None:
    found = predicted(grow, runs / "images", runs / "img")
    assert len(found) == 40
    assert np.mean([row["sample"].startswith(row["class"]) for row in found]) > 0.9
    (one,) = predicted(grow, runs / "images", runs / "img/light/3.png", "--top", 2)
    (same,) = [row for row in found if row["sample"] == "light/3.png"]
    assert (one["class 1"], one["probability 1"]) == (same["class"], same["probability"])
    assert one["probability 1"] + one["probability 2"] == pytest.approx(1)
    measured = json.loads(grow("eval", runs / "images", "--on", runs / "img", "--json").out)
    assert measured["confusion"][1][1] + measured["confusion"][1][0] == 20
    assert measured["classes"][0]["recall"] == measured["confusion"][0][0] / 20


def test_an_image_is_shown_on_a_terminal_without_hydra_and_pandas(
    runs: Path, grow: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = "import sys, grow_cli.commands.predict; sys.exit(bool({'hydra', 'pandas', 'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=REPOSITORY).returncode == 0

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a table that a terminal does not need")

    monkeypatch.setattr(pd, "DataFrame", refuse)
    outcome = grow("predict", runs / "images", runs / "img/dark/0.png")
    assert (outcome.code, "dark" in outcome.out) == (0, True), outcome


def test_an_image_file_is_as_bright_as_the_datasets_own_images(grow: Callable, tmp_path: Path) -> None:
    digits = ("dataset=digits", "subset=200", *FAST, "stop.epochs=1", f"run_dir={tmp_path}/run")
    assert grow("train", *digits).code == 0
    shown = load_digits().images[:12]  # bytes from 0 to 16
    (tmp_path / "files").mkdir()
    for i, image in enumerate(np.round(shown * 255 / 16).astype(np.uint8)):
        Image.fromarray(image).save(tmp_path / "files" / f"{i:02}.png")
    np.save(tmp_path / "own.npy", shown[:, None].astype(np.uint8))
    own, files = (predicted(grow, tmp_path / "run", tmp_path / name) for name in ("own.npy", "files"))
    assert [{**row, "sample": 0} for row in files] == [{**row, "sample": 0} for row in own]
    np.save(tmp_path / "bright.npy", np.full((1, 1, 8, 8), 255, np.uint8))
    refused = grow("predict", tmp_path / "run", tmp_path / "bright.npy")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "white is 16" in refused.err
    assert "multiply them by 16 / 255" in refused.err


def test_arrays_are_predicted_and_measured(runs: Path, grow: Callable, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([2.0, 0, 0]))
    assert predicted(grow, runs / "arrays", tmp_path / "one.npy")[0]["class"] == "7"
    left = grow("eval", runs / "arrays", "--on", runs / "a.npz")
    assert left.code == 0
    assert "60 samples, accuracy" in left.out
    assert "precision" in left.out


def test_answers_go_to_a_file_that_is_not_overwritten(runs: Path, grow: Callable, tmp_path: Path) -> None:
    assert grow("predict", runs / "classes", runs / "table.csv", "-o", tmp_path / "a.csv").code == 0
    assert len(pd.read_csv(tmp_path / "a.csv")) == 80
    assert "is not overwritten" in grow("predict", runs / "classes", runs / "table.csv", "-o", tmp_path / "a.csv").err


def test_eval_on_leaves_the_runs_scores_as_they_are(runs: Path, grow: Callable) -> None:
    before = (runs / "classes/summary.json").read_bytes()
    assert grow("eval", runs / "classes", "--on", runs / "table.csv").code == 0
    assert (runs / "classes/summary.json").read_bytes() == before


BAD = {
    "predict {r}/classes {r}/nowhere.csv": "no such file or folder",
    "predict {r}/classes {r}/img/dark/0.png": "the net reads a table with the columns a, town",
    "predict {r}/classes {r}/a.npz": "a column must be (N,)",
    "predict {r}/arrays {r}/table.csv": "the net reads vectors of 3 numbers",
    "predict {r}/arrays -": "the net reads vectors of 3 numbers",
    "predict {r}/images {r}/table.csv": "the net reads images of 6×6 pixels",
    "predict {r}/classes {r}/table.csv --top 3": "the net knows 2 classes",
    "predict {r}/classes {r}/table.csv --csv --json": "give one of them",
    "predict {r}/classes {r}/table.csv -o a.txt": "must end in .csv or .json",
    "predict {r} {r}/table.csv": "is not a run folder",
    "eval {r}/images --on {r}/img/dark/0.png": "give a folder of <class>/*",
    "eval {r}/images --on {r}": "the net knows no class",
    "eval {r}/arrays --on {r}/a.npz seed=1": "takes no keys",
}


@pytest.mark.parametrize("typed", BAD)
def test_what_the_net_cannot_take_is_one_sentence(typed: str, runs: Path, grow: Callable) -> None:
    left = grow(*typed.format(r=runs).split())
    assert left.code == 2
    assert left.err.count("\n") == 1
    assert BAD[typed] in left.err


def exported(grow: Callable, run: Path, into: Path) -> dict[str, Any]:
    """What `model.py` defines."""
    assert grow("export", run, "-o", into).code == 0
    space: dict[str, Any] = {"__name__": "model", "__file__": str(into / "model.py")}
    exec(compile((into / "model.py").read_text(), "model.py", "exec"), space)
    return space


def test_the_exported_code_predicts_of_a_tables_rows_what_grow_does(runs: Path, grow: Callable, tmp_path: Path) -> None:
    rows = pd.read_csv(runs / "table.csv").to_dict("records")
    rows += [{"a": "", "town": "z"}, {"a": float("nan"), "town": None}]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    space = exported(grow, runs / "classes", tmp_path / "classes")
    found = space["load"]()(space["prepare"](space["encode"](rows))).softmax(1).max(1)
    wanted = predicted(grow, runs / "classes", tmp_path / "rows.csv")
    assert found.values.tolist() == pytest.approx([row["probability"] for row in wanted], abs=1e-4)
    assert [space["CLASSES"][i] for i in found.indices.tolist()] == [row["class"] for row in wanted]
    space = exported(grow, runs / "quantity", tmp_path / "quantity")
    found = space["values"](space["load"]()(space["prepare"](space["encode"](rows)))).flatten().tolist()
    assert found == pytest.approx(
        [r["value"] for r in predicted(grow, runs / "quantity", tmp_path / "rows.csv")], rel=1e-4
    )


def files_of_every_kind(folder: Path) -> Path:
    """Images of six formats, in colours, grey and transparent, and one for each way in which EXIF turns it."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for i, suffix in enumerate((".png", ".jpg", ".bmp", ".gif", ".tiff", ".webp")):
        for kind, mode in {"plain": "RGB", "grey": "L", "clear": "RGBA"}.items():
            if (mode, suffix) == ("RGBA", ".jpg"):
                continue
            image = Image.fromarray(rng.integers(0, 256, (9 + i, 13, 4), np.uint8), "RGBA").convert(mode)
            image.save(folder / f"{kind}{suffix}")
    for turn in range(2, 9):
        turned = Image.fromarray(rng.integers(0, 256, (9, 13, 3), np.uint8))
        exif = turned.getexif()
        exif[0x0112] = turn
        turned.save(folder / f"turned{turn}.jpg", exif=exif)
    return folder


@pytest.mark.filterwarnings("ignore:.*onnx.*")
@pytest.mark.parametrize("kind", ["state_dict", "torch_export", "onnx"])
def test_every_export_predicts_of_image_files_what_grow_does(
    kind: str, runs: Path, grow: Callable, tmp_path: Path
) -> None:
    space = exported(grow, runs / "images", tmp_path / "code")
    wanted = predicted(grow, runs / "images", files_of_every_kind(tmp_path / "files"))
    assert len(wanted) == 24
    net: Callable[[torch.Tensor], torch.Tensor] = lambda x: space["load"]()(space["prepare"](x))  # noqa: E731
    classes = list(space["CLASSES"])
    if kind == "torch_export":
        assert grow("export", runs / "images", "--format", kind, "-o", tmp_path / "net.pt2").code == 0
        files = {"about.json": ""}
        net = torch.export.load(tmp_path / "net.pt2", extra_files=files).module()
        classes = json.loads(files["about.json"])["classes"]
    elif kind == "onnx":
        for package in ("onnx", "onnxscript"):
            pytest.importorskip(package)
        runtime = pytest.importorskip("onnxruntime")
        assert grow("export", runs / "images", "--format", kind, "-o", tmp_path / "net.onnx").code == 0
        session = runtime.InferenceSession(tmp_path / "net.onnx")
        net = lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])  # noqa: E731
        classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    for row in wanted:
        chances = net(space["read"](tmp_path / "files" / row["sample"])).softmax(1)[0].detach()
        assert float(chances.max()) == pytest.approx(row["probability"], abs=1e-4), row["sample"]
        assert classes[int(chances.argmax())] == row["class"]


def test_an_exported_graph_predicts_of_a_tables_rows_what_grow_does(runs: Path, grow: Callable, tmp_path: Path) -> None:
    rows = pd.read_csv(runs / "table.csv").to_dict("records")
    space = exported(grow, runs / "quantity", tmp_path / "code")
    assert grow("export", runs / "quantity", "--format", "torch_export", "-o", tmp_path / "net.pt2").code == 0
    net = torch.export.load(tmp_path / "net.pt2").module()
    found = space["values"](net(space["encode"](rows))).flatten().tolist()
    wanted = [row["value"] for row in predicted(grow, runs / "quantity", runs / "table.csv")]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_run_in_python_predicts_of_a_dataframe_what_the_command_does(runs: Path, grow: Callable) -> None:
    import grow_cli

    rows = pd.read_csv(runs / "table.csv").drop(columns=["kind", "price"])
    classes = [row["class"] for row in predicted(grow, runs / "classes", runs / "table.csv")]
    assert grow_cli.load(runs / "classes").predict(rows).tolist() == classes
    values = [row["value"] for row in predicted(grow, runs / "quantity", runs / "table.csv")]
    assert grow_cli.load(runs / "quantity").predict(rows).flatten().tolist() == pytest.approx(values, rel=1e-6)
