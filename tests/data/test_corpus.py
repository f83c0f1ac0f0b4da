"""Texts: which files are read, how they are cut and seen, and what tells one corpus from another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grow_cli.data import corpus
from grow_cli.data.batches import Batches
from grow_cli.data.corpus import BY_PATH, File, cut, digest, moved, raw_text, text_files, windows
from grow_cli.data.datasets.text import Python, Text
from grow_cli.data.identity import Trained, identity
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import UserError

CPU = torch.device("cpu")
MANY = [File(f"folder/{n}.txt", bytes([n % 256]) * (n + 1)) for n in range(2 * BY_PATH)]


def load(option: Text, **more: object) -> Data:
    return load_data(option, data_dir=Path(), subset=None, device=CPU, **more)  # type: ignore[arg-type]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 8)
    return tmp_path


def test_every_byte_is_predicted_once_in_an_epoch_from_the_one_before_it() -> None:
    stream = torch.arange(50, dtype=torch.uint8)
    x, y = windows(stream, 7)
    assert y.flatten().tolist() == list(range(1, 50))
    assert x.flatten().tolist() == list(range(49))
    batches = Batches(corpus_split(x, y), 2, torch.Generator().manual_seed(0), prepare=lambda x: x)
    seen = torch.cat([batches.next()[1].flatten() for _ in range(3)])
    assert len(set(seen.tolist())) == len(seen) == 42  # of 7 windows 3 batches of 2


def corpus_split(x: torch.Tensor, y: torch.Tensor) -> corpus.Any:
    from grow_cli.data.batches import Split

    return Split(x, y)


def test_windows_and_targets_are_views_of_one_stream_wherever_they_lie() -> None:
    stream = torch.arange(40, dtype=torch.uint8)
    x, _ = windows(stream, 6)
    x, y = moved(x, CPU)
    assert x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
    assert x.untyped_storage().nbytes() <= len(stream)
    assert torch.equal(y.flatten()[:-1], x.flatten()[1:])
    away, next_ones = moved(x, torch.device("meta"))
    assert away.shape == next_ones.shape == x.shape


def test_an_epoch_needs_no_copy_of_the_corpus(text: Path) -> None:
    data = load(Text(root=str(text), context=8, measured=None))
    assert data.train.x.untyped_storage().data_ptr() == data.train.y.untyped_storage().data_ptr()
    assert data.train.x.dtype == torch.uint8
    assert data.prepare(data.train.x) is data.train.x


def test_whole_files_are_drawn_by_their_paths_and_the_test_part_heeds_no_seed() -> None:
    parts = [cut(MANY, 0.3, 0.3, seed) for seed in (0, 1)]
    assert parts[0]["test"] == parts[1]["test"]
    assert parts[0]["val"] != parts[1]["val"]
    shuffled = cut(sorted(MANY, key=lambda f: len(f.content) % 7), 0.3, 0.3, 0)
    for part in ("train", "val", "test"):
        assert sorted(shuffled[part]) == sorted(parts[0][part])
        assert 0.05 < len(parts[0][part]) / sum(len(f.content) for f in MANY) < 0.8
    fewer = cut(MANY[:-1], 0.3, 0.3, 0)
    for part, content in parts[0].items():  # a file that goes takes none of the others elsewhere
        assert content.startswith(fewer[part])


def test_few_files_are_cut_by_position_and_nothing_is_in_two_parts() -> None:
    parts = cut([File("a", bytes(range(100))), File("b", bytes(range(100, 200)))], 0.1, 0.2, 0)
    assert parts["test"] == bytes([*range(80, 100), *range(180, 200)])
    assert parts["val"] == bytes([*range(72, 80), *range(172, 180)])
    assert sum(map(len, parts.values())) == 200


def test_a_digest_tells_names_contents_and_borders_apart() -> None:
    files = [File("a", b"12"), File("b", b"3")]
    others = ([File("a", b"1"), File("b", b"23")], [File("a", b"12"), File("c", b"3")], [File("a", b"12")])
    assert len({digest(found)["sha256"] for found in (files, *others)}) == 4
    assert digest(files)["bytes"] == 3
    assert digest(files)["files"] == 2


def test_hidden_files_and_other_patterns_are_left_out(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden.txt", "c.md", "deep/d.txt", ".git/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert [file.name for file in text_files(tmp_path, "*.txt")] == ["a.txt", "b.txt", "deep/d.txt"]
    assert [file.content for file in text_files(tmp_path / "c.md", "*.txt")] == [b"c.md"]


def test_the_standard_library_has_no_tests_in_it_and_three_parts() -> None:
    option = Python(context=64)
    files = option.files()
    names = {file.name for file in files}
    assert {"argparse.py", "json/decoder.py"} <= names
    assert not any("test" in name.split("/")[:-1] or "site-packages" in name for name in names)
    parts = cut(files, option.validation, option.test, 0)
    assert all(len(content) > 2**17 for content in parts.values())


def test_a_net_is_measured_on_windows_spread_evenly_over_the_part(text: Path) -> None:
    data = load(Text(root=str(text), context=8, measured=80))
    part = data.measured("train")
    assert len(part) == 10
    assert len(data.train) > 100
    gaps = {int(row[0]) for row in part.x}
    assert len(gaps) > 3
    assert torch.equal(part.x[0], data.train.x[0])
    assert data.identity["splits"]["train"] == len(data.train)
    assert load(Text(root=str(text), context=8, measured=None)).measured("train") is not None


def test_a_corpus_that_changed_is_refused_by_its_digest(text: Path) -> None:
    option = Text(root=str(text), context=8)
    raw = option.load(Path())
    from grow_cli.data.base import DataSpec

    known = identity(DataSpec("text", "language", (8,), 256), raw)
    assert known["corpus"] == digest(text_files(text, "*.txt"))
    trained = Trained(known)
    load(option, trained=trained)
    (text / "a.txt").write_bytes((text / "a.txt").read_bytes() + b"!")
    with pytest.raises(UserError, match=r"another corpus \(1 file with 2,049 bytes, SHA-256 \w{8} instead of"):
        load(option, trained=trained)


@pytest.mark.parametrize(
    ("context", "told"),
    [(2048, "dataset.context=2048: the train part"), (100, "dataset.context=100: the validation part has 97")],
)
def test_a_context_longer_than_a_part_is_refused(text: Path, context: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Text(root=str(text), context=context).load(Path())


def test_without_a_validation_part_none_is_cut_off() -> None:
    parts = cut([File("a", bytes(100))], 0.0, 0.2, 0)
    assert parts["val"] == b""
    assert raw_text(parts, 5, {"files": 1, "bytes": 100}).held_out is None
