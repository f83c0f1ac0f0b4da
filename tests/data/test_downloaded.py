"""MNIST and CIFAR: torchvision's layout, absent and damaged files, interrupted downloads. No test uses the network."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from grow_cli.data.base import RawData
from grow_cli.data.datasets.downloaded import CIFAR10, CIFAR100, MNIST, FashionMNIST
from grow_cli.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    """A uint8 array as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def mnist_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    contents = {}
    for images, labels, n in ((*IDX[:2], 20), (*IDX[2:], 10)):
        contents[images] = idx(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        contents[labels] = idx((np.arange(n) % 10).astype(np.uint8))
    return contents


def write(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)


def no_network(*_: object, **__: object) -> None:
    raise urllib.error.URLError("there is no network here")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], None]:
    """Answer downloads with the given files, by the last part of the address."""

    class Response(io.BytesIO):
        def __init__(self, url: str, data: bytes) -> None:
            super().__init__(data)
            self.url, self.length = url, len(data)

    def served(files: dict[str, bytes]) -> None:
        def urlopen(request: urllib.request.Request, *_: object, **__: object) -> Response:
            return Response(request.full_url, files[request.full_url.rsplit("/", 1)[-1]])

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)

    return served


def test_mnist_of_the_shared_folder_is_read_where_it_is() -> None:
    if not (SHARED / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {SHARED}")
    raw = MNIST(name="mnist").load(SHARED)
    assert raw.train_x.shape == (60_000, 1, 28, 28)
    assert raw.test_x.shape == (10_000, 1, 28, 28)
    assert raw.train_x.dtype == torch.uint8
    assert raw.train_y.dtype == torch.int64
    assert raw.train_y.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    reference = torchvision.datasets.MNIST(SHARED, train=False)
    assert torch.equal(raw.test_x[:, 0], reference.data)
    assert torch.equal(raw.test_y, reference.targets)


@pytest.mark.parametrize(("option", "folder"), [(MNIST, "MNIST"), (FashionMNIST, "FashionMNIST")])
def test_idx_files_are_read_as_torchvision_reads_them(option: type[MNIST], folder: str, tmp_path: Path) -> None:
    write(tmp_path / folder / "raw", mnist_files())
    raw = option(name="x").load(tmp_path)
    reference = getattr(torchvision.datasets, folder)(tmp_path, train=True)
    assert torch.equal(raw.train_x[:, 0], reference.data)
    assert torch.equal(raw.train_y, reference.targets)
    assert raw.test_x.shape == (10, 1, 28, 28)
    assert raw.classes == tuple(reference.classes)


def test_loading_writes_nothing_into_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "MNIST" / "raw", mnist_files())

    def state() -> list[tuple[Path, int]]:
        return sorted((path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")])

    before = state()
    MNIST(name="mnist").load(tmp_path)
    assert state() == before


@pytest.mark.parametrize(
    ("option", "folder", "file"),
    [
        (MNIST, "MNIST/raw", "t10k-labels-idx1-ubyte"),
        (FashionMNIST, "FashionMNIST/raw", "train-images-idx3-ubyte"),
        (CIFAR10, "cifar-10-batches-py", "data_batch_3"),
        (CIFAR100, "cifar-100-python", "meta"),
    ],
)
def test_absent_and_offline_is_one_sentence_with_the_path_and_what_to_put_there(
    option: type[MNIST], folder: str, file: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        option(name="x").load(tmp_path / "data")
    message = str(error.value)
    assert str(tmp_path / "data" / folder) in message
    assert file in message
    assert "there is no network here" in message
    assert "\n" not in message
    assert not list((tmp_path / "data").iterdir())


def test_absent_where_nothing_can_be_written_is_the_same_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{tmp_path}/file/data/MNIST/raw lacks train-images"):
        MNIST(name="mnist").load(tmp_path / "file" / "data")


def test_an_incomplete_folder_is_not_read_and_the_missing_file_is_named(tmp_path: Path) -> None:
    contents = mnist_files()
    del contents["t10k-images-idx3-ubyte"]
    write(tmp_path / "MNIST" / "raw", contents)
    with pytest.raises(UserError, match="lacks t10k-images-idx3-ubyte, and downloading failed"):
        MNIST(name="mnist").load(tmp_path)


def test_a_download_is_moved_into_place_and_the_next_load_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[dict[str, bytes]], None]
) -> None:
    archives = {f"{name}.gz": gzip.compress(data) for name, data in mnist_files().items()}
    resources = [(name, hashlib.md5(data).hexdigest()) for name, data in archives.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    serve(archives)
    first = MNIST(name="mnist").load(tmp_path / "new")
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    again = MNIST(name="mnist").load(tmp_path / "new")
    assert torch.equal(first.train_x, again.train_x)
    assert sorted(path.name for path in (tmp_path / "new").rglob("*") if path.is_file()) == sorted(IDX)


def test_a_download_that_breaks_off_leaves_nothing_that_could_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[dict[str, bytes]], None]
) -> None:
    archives = {f"{name}.gz": gzip.compress(data) for name, data in mnist_files().items()}
    resources = [(name, hashlib.md5(data).hexdigest()) for name, data in archives.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    archives["t10k-images-idx3-ubyte.gz"] = archives["t10k-images-idx3-ubyte.gz"][:100]
    serve(archives)
    with pytest.raises(UserError, match="downloading failed"):
        MNIST(name="mnist").load(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("train-images-idx3-ubyte", lambda data: data[:-100], "15,596 bytes instead of 15,696"),
        ("t10k-labels-idx1-ubyte", lambda data: data + b"\0", "19 bytes instead of 18"),
        ("t10k-images-idx3-ubyte", lambda data: b"", "does not begin like"),
        ("train-labels-idx1-ubyte", lambda data: b"<html>404</html>", "does not begin like"),
        ("train-labels-idx1-ubyte", lambda data: idx(np.zeros(7, np.uint8)), "7 labels for 20 images"),
        ("train-labels-idx1-ubyte", lambda data: data[:-1] + b"\xff", "label 255"),
    ],
)
def test_a_damaged_idx_file_is_named(file: str, damage: Callable[[bytes], bytes], reason: str, tmp_path: Path) -> None:
    contents = mnist_files()
    contents[file] = damage(contents[file])
    write(tmp_path / "MNIST" / "raw", contents)
    with pytest.raises(UserError, match=f"{tmp_path}/MNIST/raw/{file} is damaged .*{reason}"):
        MNIST(name="mnist").load(tmp_path)


@pytest.fixture
def cifar_named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], tuple[CIFAR10, Path]]:
    """Makes a small set in torchvision's layout, with checksums that torchvision knows: option, folder."""

    def make(kind: str, data_dir: Path) -> tuple[CIFAR10, Path]:
        source = getattr(torchvision.datasets, kind)
        classes = int(kind.removeprefix("CIFAR"))
        labels, names = ("labels", "label_names") if classes == 10 else ("fine_labels", "fine_label_names")
        rng = np.random.default_rng(0)
        folder = data_dir / source.base_folder
        folder.mkdir()

        def store(name: str, content: object) -> list[str]:
            data = pickle.dumps(content, protocol=2)
            (folder / name).write_bytes(data)
            return [name, hashlib.md5(data).hexdigest()]

        def batch() -> dict[str, object]:
            return {
                "data": rng.integers(0, 256, (classes, 3072), dtype=np.uint8),
                labels: list(range(classes)),
                "coarse_labels": [0] * classes,
            }

        monkeypatch.setattr(source, "train_list", [store(name, batch()) for name, _ in source.train_list])
        monkeypatch.setattr(source, "test_list", [store(name, batch()) for name, _ in source.test_list])
        name, md5 = store(source.meta["filename"], {names: [f"class {c}" for c in range(classes)]})
        monkeypatch.setattr(source, "meta", {"filename": name, "key": names, "md5": md5})
        return (CIFAR10 if classes == 10 else CIFAR100)(name=kind.lower()), folder

    return make


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def cifar(request: pytest.FixtureRequest, cifar_named: Callable, tmp_path: Path) -> tuple[CIFAR10, Path, int]:
    """One of the two: option, folder, classes."""
    return (*cifar_named(request.param, tmp_path), int(request.param.removeprefix("CIFAR")))


def test_cifar_batches_are_read_as_torchvision_reads_them(cifar: tuple[CIFAR10, Path, int]) -> None:
    option, folder, classes = cifar
    raw = option.load(folder.parent)
    reference = getattr(torchvision.datasets, option.source)(folder.parent, train=True)
    assert raw.train_x.dtype == torch.uint8
    assert torch.equal(raw.train_x, torch.from_numpy(reference.data).permute(0, 3, 1, 2))
    assert raw.train_y.tolist() == reference.targets
    assert raw.test_x.shape == (classes, 3, 32, 32)
    assert raw.classes == tuple(reference.classes)


def test_a_cifar_file_with_another_checksum_is_named_and_never_unpickled(cifar: tuple[CIFAR10, Path, int]) -> None:
    option, folder, _ = cifar
    file = next(path for path in folder.iterdir() if "test" in path.name)
    # a pickle that, loaded, calls os.mkdir(marker)
    marker = folder / "executed"
    file.write_bytes(f"cos\nmkdir\n(V{marker}\ntR.".encode())
    with pytest.raises(UserError, match=f"{file} is damaged .*checksum"):
        option.load(folder.parent)
    assert not marker.exists()


def test_what_python_2_pickled_is_read_without_a_warning(cifar: tuple[CIFAR10, Path, int], tmp_path: Path) -> None:
    # the original batches hold numpy dtypes with integers where numpy 2.4 wants booleans
    data = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR."
    (tmp_path / "old").write_bytes(data)
    assert cifar[0]._pickle(tmp_path / "old", hashlib.md5(data).hexdigest()) == np.uint8


# ---- archives that somebody has put there


@pytest.fixture(params=["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"])
def archived(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[MNIST | CIFAR10, dict[str, bytes], list[str], RawData]:
    """A small set: its option, its archives by name, the folders where they may lie, and what it holds."""
    option: MNIST | CIFAR10
    if "MNIST" in request.param:
        archives = {f"{name}.gz": gzip.compress(data) for name, data in mnist_files().items()}
        resources = [(name, hashlib.md5(data).hexdigest()) for name, data in archives.items()]
        monkeypatch.setattr(getattr(torchvision.datasets, request.param), "resources", resources)
        option = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}[request.param](name="x")
        places = [".", request.param, f"{request.param}/raw"]
        write(tmp_path / "unpacked" / places[-1], mnist_files())
    else:
        (tmp_path / "unpacked").mkdir()
        small = request.getfixturevalue("cifar_named")
        option, folder = small(request.param, tmp_path / "unpacked")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(folder, folder.name)
        source = getattr(torchvision.datasets, request.param)
        archives = {source.filename: buffer.getvalue()}
        monkeypatch.setattr(source, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
        places = [".", folder.name]
    return option, archives, places, option.load(tmp_path / "unpacked")


def test_archives_that_are_put_there_by_hand_are_used_and_nothing_is_written(archived: Any, tmp_path: Path) -> None:
    option, archives, places, expected = archived
    for number, place in enumerate(places):
        data_dir = tmp_path / f"by hand {number}"
        (data_dir / place).mkdir(parents=True)
        for name, data in archives.items():
            (data_dir / place / name).write_bytes(data)
        before = sorted(data_dir.rglob("*"))
        found = option.load(data_dir)
        for name in ("train_x", "train_y", "test_x", "test_y"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
        assert found.classes == expected.classes
        assert sorted(data_dir.rglob("*")) == before


def test_an_archive_with_another_checksum_is_one_sentence_and_is_not_unpacked(
    archived: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, archives, _, _ = archived
    monkeypatch.setattr(type(option), "_unpack", no_network)
    for damaged in archives:
        data_dir = tmp_path / f"damaged {damaged}"
        data_dir.mkdir()
        (data_dir / damaged).write_bytes(archives[damaged][:-1] + b"x")
        with pytest.raises(
            UserError, match=rf"{damaged} is not the original file \(its MD5 checksum is [0-9a-f]{{32}} instead of "
        ) as error:
            option.load(data_dir)
        assert "\n" not in str(error.value)


def test_what_no_archive_holds_is_still_missing(archived: Any, tmp_path: Path) -> None:
    option, archives, _, _ = archived
    (tmp_path / "some").mkdir()
    for name in list(archives)[1:]:
        (tmp_path / "some" / name).write_bytes(archives[name])
    with pytest.raises(UserError, match="downloading failed") as error:
        option.load(tmp_path / "some")
    assert all(name in str(error.value) for name in archives), "the archives that may be put there are named"


def test_unpacked_files_come_before_an_archive(archived: Any, tmp_path: Path) -> None:
    option, archives, _, expected = archived
    for name in archives:
        (tmp_path / "unpacked" / name).write_bytes(b"something else")
    assert torch.equal(option.load(tmp_path / "unpacked").train_x, expected.train_x)
