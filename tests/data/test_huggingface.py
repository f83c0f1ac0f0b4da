"""`dataset=huggingface`: images and tables of the library `datasets`, read as files of one's own are; needs that package."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow

from grow_cli.data.datasets.huggingface import HuggingFace
from grow_cli.data.datasets.table import Table
from grow_cli.data.folders import read_tree
from grow_cli.data.images import Decoding, Held, decode
from grow_cli.errors import UserError


@pytest.fixture
def hub() -> Any:
    """The library, without the bars of its writing."""
    library = pytest.importorskip("datasets")
    library.disable_progress_bars()
    return library


def read(path: Path, **keys: Any) -> Any:
    return HuggingFace(name="huggingface", path=str(path), **keys).load(Path("/nowhere"))


def rows(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=n).round(3), "town": rng.choice(["x", "y"], n), "price": rng.random(n)})
    table.loc[2, "a"] = np.nan
    table["kind"] = np.where(table["price"] > 0.5, "up", "down")
    return table


def files(kind: str, n: int = 12) -> list[tuple[bytes, str]]:
    """Encoded images, the label in their brightness; one in three is grey, transparent or turned by EXIF."""
    found, rng = [], np.random.default_rng(1)
    for i in range(n):
        low = 180 * (i % 2)
        image = Pillow.fromarray(rng.integers(low, low + 60, (6, 8, 4), np.uint8), "RGBA").convert(
            ("RGB", "L", "RGBA")[i % 3] if kind == "PNG" else "RGB"
        )
        exif = image.getexif()
        exif[0x0112] = 1 + i % 8
        stream = io.BytesIO()
        image.save(stream, kind, exif=exif)
        found.append((stream.getvalue(), ("dark", "light")[i % 2]))
    return found


def saved_images(hub: Any, path: Path, splits: dict[str, list[tuple[bytes, str]]], **more: list[Any]) -> Path:
    features = {"img": hub.Image(), "label": hub.ClassLabel(names=["light", "dark", "none such"])}
    features |= {name: hub.Value("string") for name in more}
    made = {}
    for name, found in splits.items():
        columns: dict[str, list[Any]] = {"img": [{"bytes": content, "path": None} for content, _ in found]}
        columns |= {"label": [label for _, label in found]} | {k: v * len(found) for k, v in more.items()}
        made[name] = hub.Dataset.from_dict(columns, features=hub.Features(features))
    hub.DatasetDict(made).save_to_disk(str(path))
    return path


def saved_table(hub: Any, path: Path, **splits: pd.DataFrame) -> Path:
    made = {name: hub.Dataset.from_pandas(frame, preserve_index=False) for name, frame in splits.items()}
    hub.DatasetDict(made).save_to_disk(str(path))
    return path


def test_an_image_in_memory_has_the_pixels_of_its_file(tmp_path: Path) -> None:
    found = files("PNG") + files("JPEG")
    for i, (content, _) in enumerate(found):
        (tmp_path / f"{i:02}").write_bytes(content)
    held = decode([Held(f"row {i}", content) for i, (content, _) in enumerate(found)], Decoding(5, 90))
    assert held.shape == (24, 3, 5, 5)
    assert torch.equal(held, decode([str(tmp_path / f"{i:02}") for i in range(24)], Decoding(5, 90)))
    with pytest.raises(UserError, match="row 7 is not an image"):
        decode([Held("row 7", b"nothing")], Decoding(None, 255))


def test_saved_images_are_read_as_a_folder_of_them_is(hub: Any, tmp_path: Path) -> None:
    parts = {"train": files("PNG"), "test": files("JPEG", 6)}
    for part, found in parts.items():
        for i, (content, label) in enumerate(found):
            (tmp_path / "tree" / part / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "tree" / part / label / f"{i:02}.png").write_bytes(content)
    raw = read(saved_images(hub, tmp_path / "hub", parts, note=["x"]), size=6, background=10)
    tree = read_tree(tmp_path / "tree", 6, 10)
    assert raw.classes == ("light", "dark"), "in the labels' own order; a class without a sample is none"
    assert raw.image == tree.image
    for split in ("train", "test"):
        x, y = getattr(raw, f"{split}_x"), getattr(raw, f"{split}_y")
        order = sorted(range(len(y)), key=lambda i: (raw.classes[y[i]], i))
        assert torch.equal(x[order], getattr(tree, f"{split}_x"))
        names = [tree.classes[label] for label in getattr(tree, f"{split}_y")]
        assert [raw.classes[y[i]] for i in order] == names


def test_saved_columns_are_read_as_a_table_of_them_is(hub: Any, tmp_path: Path) -> None:
    rows().to_csv(tmp_path / "t.csv", index=False)
    rows(20).to_csv(tmp_path / "test.csv", index=False)
    for target in ("kind", "price"):
        own = Table(path=str(tmp_path / "t.csv"), target=target, test_path=str(tmp_path / "test.csv")).load(tmp_path)
        raw = read(saved_table(hub, tmp_path / f"hub {target}", train=rows(), test=rows(20)), target=target)
        assert (raw.task, raw.classes, raw.table) == (own.task, own.classes, own.table)
        for part in ("train_x", "train_y", "test_x", "test_y"):
            assert torch.equal(getattr(raw, part), getattr(own, part)), part


def test_a_split_of_its_own_is_validated_on_and_stands_in_for_a_test_part_that_is_absent(
    hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = read(saved_table(hub, tmp_path / "a", train=rows(), validation=rows(30), test=rows(20)), target="kind")
    assert (len(raw.train_x), len(raw.held_out[0]), len(raw.test_x)) == (60, 30, 20)
    assert not capsys.readouterr().err
    raw = read(saved_table(hub, tmp_path / "b", train=rows(), validation=rows(30)), target="kind")
    assert (len(raw.train_x), raw.held_out, len(raw.test_x)) == (60, None, 30)
    assert "validation is the test part" in capsys.readouterr().err
    raw = read(saved_table(hub, tmp_path / "c", train=rows()), target="kind")
    assert (len(raw.train_x), raw.held_out, len(raw.test_x)) == (48, None, 12)
    raw = read(tmp_path / "a", target="kind", train_split="validation", validation_split="train")
    assert (len(raw.train_x), len(raw.held_out[0])) == (30, 60)


def test_a_test_part_whose_labels_are_kept_back_is_none(
    hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = hub.Features({"a": hub.Value("float32"), "label": hub.ClassLabel(names=["no", "yes"])})
    labels = {"train": [0, 1] * 10 + [-1], "validation": [0, 1] * 4, "test": [-1] * 6}
    made = {k: hub.Dataset.from_dict({"a": list(range(len(v))), "label": v}, features) for k, v in labels.items()}
    hub.DatasetDict(made).save_to_disk(str(tmp_path / "d"))
    raw = read(tmp_path / "d")
    assert (len(raw.train_x), len(raw.test_x), raw.classes) == (20, 8, ("no", "yes"))
    said = capsys.readouterr().err
    assert "(6 of 6)" in said
    assert "(1 of 21)" in said
    one = hub.Dataset.from_dict({"a": list(range(20)), "label": [0, 1] * 10}, features)
    one.save_to_disk(str(tmp_path / "one"))
    assert len(read(tmp_path / "one").train_x) == 16, "saved without splits: a fifth is the test part"


def test_what_cannot_be_learnt_is_one_sentence(hub: Any, tmp_path: Path) -> None:
    table = saved_table(hub, tmp_path / "t", train=rows(), extra=rows(9))
    nested = rows().assign(seen=[[1, 2]] * 60)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    several = saved_images(hub, tmp_path / "i", {"train": files("PNG")})
    for path, keys, said in (
        (tmp_path / "nowhere", {}, "there is no such folder"),
        (tmp_path / "a.csv", {}, "dataset=table"),
        (tmp_path / "empty", {}, "cannot be read as a dataset"),
        (table, {}, "no column of class labels: dataset.target must be one of a, town, price, kind"),
        (table, {"target": "knd"}, "dataset.target=knd"),
        (table, {"target": "kind", "train_split": "trian"}, "only train, extra: give dataset.train_split=NAME"),
        (table, {"target": "kind", "test_split": "tset"}, "give dataset.test_split=NAME"),
        (table, {"target": "kind", "validation_split": "v"}, "give dataset.validation_split=NAME"),
        (saved_table(hub, tmp_path / "n", train=nested), {"target": "kind"}, "'dataset.drop=[seen]'"),
        (saved_table(hub, tmp_path / "few", train=rows(4)), {"target": "town"}, "has 4 rows, too few"),
        (several, {}, "the images have several sizes"),
        (several, {"target": "img"}, "dataset.target=img: that column holds image"),
    ):
        with pytest.raises(UserError) as error:
            read(path, **keys)
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'grow-cli\[huggingface\]'"):
        read(Path("ylecun/mnist"))
    with pytest.raises(UserError, match=r"needs dataset\.path"):
        HuggingFace().load(tmp_path)


def test_a_net_of_saved_images_is_measured_and_used_like_every_other(hub: Any, grow: Callable, tmp_path: Path) -> None:
    found = files("JPEG", 40)
    saved_images(hub, tmp_path / "hub", {"train": found[:30], "test": found[30:]})
    typed = ("dataset=huggingface", f"dataset.path={tmp_path}/hub", "dataset.size=6", "method=static", "model=mlp")
    fast = ("model.hidden=[4]", "stop.epochs=30", "optimizer.lr=3e-2", "progress=off", "threads=1", "run_dir=r")
    left = grow("train", *typed, *fast)
    assert left.code == 0, left.err
    assert grow("eval", "r").code == 0, "the same data are the same"
    for i, (content, _) in enumerate(found[:4]):
        (tmp_path / f"{i}.jpg").write_bytes(content)
        assert f",{found[i][1]}," in grow("predict", "r", f"{i}.jpg", "--csv").out
