"""Tables: what a column becomes is learnt from the training part, kept as plain data, and used as it is on every other table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from grow_cli.data import tables
from grow_cli.data.datasets.arrays import Arrays
from grow_cli.data.datasets.table import Table
from grow_cli.errors import UserError


def frame(n: int = 40) -> pd.DataFrame:
    """A number with an empty cell, categories with one, a truth value, a target of two classes."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "size": rng.normal(10, 3, n).round(3),
            "town": rng.choice(["Bern", "Chur", "Uri"], n),
            "new": rng.random(n) < 0.5,
            "price": rng.normal(100, 20, n).round(2),
        }
    )
    table["kind"] = np.where(table["size"] > 10, "large", "small")
    table.loc[0, "size"] = np.nan
    table.loc[1, "town"] = None
    return table


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    frame().to_csv(path, index=False)
    return path


def load(path: Path, **keys: Any) -> Any:
    return Table(name="table", path=str(path), **({"target": "kind"} | keys)).load(Path("/nowhere"))


def test_numbers_keep_their_values_and_categories_become_columns() -> None:
    table = frame()
    kept = tables.learn(table, "kind", "classification", (), (), 100)
    x = tables.encode(table, kept, ("large", "small"), "here", labelled=True)
    assert [c["name"] for c in kept["columns"]] == ["size", "town", "new", "price"]
    assert kept["columns"][1]["values"] == ["", "Bern", "Chur", "Uri"]
    assert x.x.shape == (40, 1 + 1 + 4 + 1 + 1)
    assert x.x[0, :2].tolist() == [np.float32(table["size"].median()), 1]
    assert x.x[5, 0] == np.float32(table["size"][5])
    assert x.x[:, 2:6].sum(1).tolist() == [1] * 40
    assert x.x[1, 2] == 1, "an empty cell is a value like others"
    assert x.y is not None
    assert ["large", "small"][x.y[7]] == table["kind"][7]


def test_what_was_learnt_is_used_as_it_is_on_another_table() -> None:
    kept = tables.learn(frame(), "kind", "classification", (), (), 100)
    other = pd.DataFrame({"town": ["Bern", "Rom"], "price": [1, 2], "new": [True, False], "size": [np.nan, 3]})
    found = tables.encode(other, kept, (), "here", labelled=False)
    assert found.unseen == {"town": ["Rom"]}
    assert found.x[1, 2:6].tolist() == [0, 0, 0, 0]
    assert found.x[0, 0] == np.float32(frame()["size"].median())
    assert found.x[:, -1].tolist() == [1, 2], "columns are found by name, in any order"


def test_the_test_part_teaches_nothing(csv: Path) -> None:
    raw = load(csv)
    told = frame()
    train = told[~told.index.isin(_test_rows(csv))]
    assert raw.table["columns"][0]["fill"] == train["size"].median()


def _test_rows(csv: Path) -> list[int]:
    """By the price, which no two rows share."""
    raw, told = load(csv), frame()
    return [int((told["price"] - float(x)).abs().idxmin()) for x in raw.test_x[:, -1]]


def test_a_fifth_of_each_class_is_the_test_part_and_no_row_is_in_both(csv: Path) -> None:
    raw = load(csv)
    assert (len(raw.train_x), len(raw.test_x)) == (32, 8)
    prices = [set(part[:, -1].tolist()) for part in (raw.train_x, raw.test_x)]
    assert not prices[0] & prices[1]
    assert raw.classes == ("large", "small")


def test_a_quantity_is_in_units_of_its_spread(csv: Path) -> None:
    raw = load(csv, target="price")
    assert raw.task == "regression"
    assert abs(float(raw.train_y.mean())) < 1e-6
    assert float(raw.train_y.std(correction=0)) == pytest.approx(1)
    back = raw.train_y * raw.table["spread"] + raw.table["mean"]
    assert set(back.flatten().round(decimals=2).tolist()) <= {float(np.float32(p)) for p in frame()["price"]}


@pytest.mark.parametrize(
    ("values", "said", "task"),
    [
        (["a", "b"], "auto", "classification"),
        ([0, 1, 1], "auto", "classification"),
        ([0.0, 1.0], "auto", "classification"),
        ([0.5, 1.0], "auto", "regression"),
        (list(range(30)), "auto", "regression"),
        (list(range(30)), "classification", "classification"),
        ([True, False], "auto", "classification"),
    ],
    ids=str,
)
def test_the_task_is_what_the_target_is_or_what_is_said(values: list[Any], said: str, task: str) -> None:
    assert tables.task_of(pd.Series(values), said) == task


def test_files_of_every_kind_hold_the_same_table(csv: Path, tmp_path: Path) -> None:
    table = frame().drop(columns="town")
    wanted = tables.learn(table, "kind", "classification", (), (), 100)
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "b.csv", sep=";", index=False, encoding="utf-8-sig")
    np.savez(tmp_path / "c.npz", **{c: table[c].to_numpy(str if c == "kind" else None) for c in table})
    for name in ("a.tsv", "b.csv", "c.npz"):
        assert tables.learn(tables.read(tmp_path / name), "kind", "classification", (), (), 100) == wanted, name


BAD: dict[str, tuple[Callable[[pd.DataFrame], object], dict[str, Any], str]] = {
    "no target": (lambda t: t, {"target": None}, "dataset.target: one of size, town"),
    "an unknown target": (lambda t: t, {"target": "knd"}, "no such column; it has size, town"),
    "one value": (lambda t: t.assign(kind="a"), {}, "has only one value"),
    "one quantity": (lambda t: t.assign(price=1.5), {"target": "price", "task": "regression"}, "has only one value"),
    "classes like rows": (lambda t: t.assign(kind=[f"k{i}" for i in range(len(t))]), {}, "too many classes"),
    "text as a quantity": (lambda t: t, {"task": "regression"}, "holds text"),
    "numbers and text": (lambda t: t.assign(size=[1, "n.n.", *[3] * 38]), {}, "'n.n.' in row 2"),
    "names": (lambda t: t.assign(town=[f"x{i}" for i in range(40)]), {"most_values": 20}, "dataset.drop=[town]"),
    "nothing else": (lambda t: t[["kind"]], {}, "no column with values"),
    "an unknown column": (lambda t: t, {"drop": ["twn"]}, "there is no column twn"),
    "few rows": (lambda t: t.head(4).assign(kind=["a", "a", "b", "b"]), {}, "too few"),
    "no row": (lambda t: t.head(0), {}, "column names but no rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_cannot_be_learnt_is_one_sentence(name: str, tmp_path: Path) -> None:
    spoil, keys, said = BAD[name]
    pd.DataFrame(spoil(frame())).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError) as error:
        load(tmp_path / "t.csv", **keys)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"PK\x03\x04"], ids=["empty", "bytes", "zip"])
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".tsv"])
def test_a_file_of_another_kind_is_one_sentence(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spoiled", [[], {"columns": 3}, {"columns": [{"name": 1}], "target": "a", "task": "regression"}]
)
def test_what_a_checkpoint_says_of_a_table_is_read_as_such_or_refused(spoiled: Any) -> None:
    with pytest.raises(TypeError):
        tables.check_plain(spoiled)
    tables.check_plain(tables.learn(frame(), "price", "regression", (), (), 100))


def arrays(tmp_path: Path, **found: np.ndarray) -> Any:
    np.savez(tmp_path / "a.npz", **found)
    return Arrays(name="arrays", path=str(tmp_path / "a.npz")).load(Path("/nowhere"))


def test_arrays_are_vectors_or_images_whose_channels_may_come_last(tmp_path: Path) -> None:
    y = np.arange(20) % 2
    assert arrays(tmp_path, x=np.random.rand(20, 3), y=y).train_x.shape == (16, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), np.uint8)
    last, first = arrays(tmp_path, x=pixels, y=y), arrays(tmp_path, x=pixels.transpose(0, 3, 1, 2), y=y)
    assert last.train_x.shape == (16, 3, 5, 4)
    assert torch.equal(last.train_x, first.train_x)
    assert arrays(tmp_path, x=pixels[..., 0], y=y).train_x.shape == (16, 1, 5, 4)
    parted = arrays(tmp_path, x_train=pixels[:12], y_train=y[:12], x_test=pixels[12:], y_test=y[12:])
    assert (len(parted.train_x), len(parted.test_x)) == (12, 8)


def test_targets_are_classes_by_number_or_name_or_quantities(tmp_path: Path) -> None:
    x = np.random.rand(24, 3)
    assert arrays(tmp_path, x=x, y=np.array([2, 10] * 12)).classes == ("2", "10")
    assert arrays(tmp_path, x=x, y=np.array(["no", "yes"] * 12)).classes == ("no", "yes")
    raw = arrays(tmp_path, x=x, y=np.linspace(1e5, 2e5, 24))
    assert (raw.task, raw.train_y.shape) == ("regression", (19, 1))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"x": np.ones((9, 2))}, "has no array y"),
        ({"x": np.ones((9, 2)), "y": np.zeros(8)}, "9 samples and 8 targets"),
        ({"x": np.ones((9, 2)), "y": np.zeros(9)}, "one value"),
        ({"x": np.ones((9, 2)), "y": np.arange(9)}, "9 classes in 9 samples"),
        ({"x": np.ones((9, 2, 2)), "y": np.arange(9) % 2}, "uint8"),
        ({"x": np.ones(9), "y": np.arange(9) % 2}, "vectors must be (N, d)"),
    ],
    ids=str,
)
def test_arrays_that_cannot_be_learnt_are_one_sentence(found: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        arrays(tmp_path, **found)
    assert said in str(error.value)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}, []], dtype=object), y=np.arange(2))
    with pytest.raises(UserError, match="cannot be read as arrays"):
        Arrays(name="arrays", path=str(tmp_path / "a.npz")).load(Path("/nowhere"))
