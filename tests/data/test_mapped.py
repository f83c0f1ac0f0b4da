"""Images that are read from their file: the same numbers as from memory, and next to no memory."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from grow_cli.data import decoded, folders, images, mapped
from grow_cli.data.batches import Batches
from grow_cli.data.datasets.image_folder import ImageFolder
from grow_cli.data.decoded import open_decoded, write_decoded
from grow_cli.data.identity import Trained, fingerprint
from grow_cli.data.mapped import Rows, free_memory
from grow_cli.data.sample import Sample
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "grow" / "image_folder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 training and 10 test images of two classes, (3, 7, 9): no multiple of 8 bytes."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 20), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            where = tmp_path / "images" / part / name
            where.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 200, (7, 9, 3)) + 56 * label
                Image.fromarray(pixels.astype(np.uint8)).save(where / f"{i:02}.png")
    return tmp_path / "images"


def load(folder: Path, storage: str, *, subset: int | None = None, **keys: Any) -> Data:
    option = ImageFolder(name="image_folder", path=str(folder), storage=storage, **keys)
    return load_data(option, data_dir=folder, subset=subset, device=CPU)


def both(folder: Path, **keys: Any) -> tuple[Data, Data]:
    held, read = load(folder, "memory", **keys), load(folder, "mapped", **keys)
    assert isinstance(held.train.x, torch.Tensor)
    assert isinstance(read.train.x, Rows)
    return held, read


CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"subset": 11, "validation": 0.3, "scale": 0.5},
    {"validation": 0.0, "normalize": False},
)


@pytest.mark.parametrize("keys", CHOICES)
def test_splits_statistics_and_fingerprints_are_those_of_a_set_in_memory_to_the_last_bit(
    keys: dict[str, Any], folder: Path
) -> None:
    held, read = both(folder, **keys)
    assert read.identity == held.identity
    assert torch.equal(read.normalizer.mean, held.normalizer.mean)
    assert torch.equal(read.normalizer.std, held.normalizer.std)
    for name in ("train", "val", "test"):
        ours, theirs = getattr(read, name), getattr(held, name)
        assert ours.x.shape == theirs.x.shape
        assert torch.equal(read.prepare(ours.x[:]), theirs.x)
        assert torch.equal(torch.cat([read.prepare(x) for x in ours.x.split(7)]), theirs.x)
        assert torch.equal(ours.y, theirs.y)
    assert torch.equal(read.probe(6).x, held.probe(6).x)


def test_rows_are_indexed_as_a_tensor_is(folder: Path) -> None:
    raw = ImageFolder(name="image_folder", path=str(folder)).load(folder)
    assert raw.decoded is not None
    index = torch.tensor([30, 2, 17, 17, 4])
    rows, tensor = Rows(raw.decoded, index, CPU), raw.train_x[index]
    keys = (2, slice(1, 4), slice(None), torch.tensor([4, 0]), torch.tensor([True, False, False, True, True]), [3, 1])
    for key in keys:
        assert torch.equal(rows[key], tensor[key]), key
    assert len(rows) == 5
    assert rows.shape == tensor.shape
    assert rows.device == tensor.device
    assert torch.equal(rows.index_select(0, torch.tensor([1, 1])), tensor.index_select(0, torch.tensor([1, 1])))


def test_batches_and_samples_are_the_same_with_augmentation_and_across_a_resume(folder: Path) -> None:
    held, read = both(folder, crop=2, flip=True)

    def batches(data: Data) -> Batches:
        stream = torch.Generator().manual_seed(3)
        return Batches(data.train, 8, stream, prepare=data.prepare, augment=data.augment)

    theirs, ours = batches(held), batches(read)
    for _ in range(7):
        for a, b in zip(theirs.next(), ours.next(), strict=True):
            assert torch.equal(a, b)
    again = batches(read)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.next()[0], theirs.next()[0])
    for (a, _), (b, _) in zip(Sample(held, 20, 6, 1), Sample(read, 20, 6, 1), strict=True):
        assert torch.equal(a, b)


def test_grey_images_and_a_test_part_alone_are_read_from_the_file_too(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    held, read = both(folder)
    assert read.spec.input_shape == (1, 7, 9)
    assert torch.equal(read.prepare(read.test.x[:]), held.test.x)
    shutil.rmtree(folder / "train")
    option = ImageFolder(name="image_folder", path=str(folder), storage="mapped")
    trained = Trained(inputs=held.inputs(), other=True)
    measured = load_data(option, data_dir=folder, subset=None, device=CPU, trained=trained)
    assert torch.equal(measured.prepare(measured.test.x[:]), held.test.x)


RUN = (
    *("train", "dataset=image_folder", "batch_size=8", "stop.steps=12", "progress=off", "evaluate.every=4"),
    *("evaluate.unit=steps", "evaluate.batch_size=16", "trigger=every", "trigger.every=4", "trigger.unit=steps"),
    *("growth.max_events=2", "evaluate.probe=12"),
)
NETS = {
    "tiny": ("method=tiny", "model=cnn", "model.channels=[[2],[3]]", "model.hidden=[4]", "dataset.crop=1", "subset=30"),
    "fold": ("method=fold", "model.hidden=[3]", "method.cluster=kmeans"),
}
CLOCKS = ("seconds", "time", "samples_per_second", "evaluation_seconds")


def rows_without_clocks(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if not any(c in k for c in CLOCKS)} for row in csv.DictReader(file)]


@pytest.mark.parametrize("method", ["tiny", pytest.param("fold", marks=pytest.mark.slow)])
def test_a_run_that_reads_from_the_file_grows_as_one_in_memory(
    method: str, folder: Path, grow: Callable, tmp_path: Path
) -> None:
    for storage in ("memory", "mapped"):
        done = grow(*RUN, *NETS[method], f"dataset.path={folder}", f"dataset.storage={storage}", f"run_dir={storage}")
        assert done.code == 0, done.err
    assert len(rows_without_clocks(tmp_path / "mapped")) >= 3
    assert rows_without_clocks(tmp_path / "mapped") == rows_without_clocks(tmp_path / "memory")
    events = [json.loads(line) for line in (tmp_path / "mapped/growth.jsonl").read_text().splitlines()]
    assert events
    assert all(event["units_added"] for event in events)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["memory", "mapped"])
def test_a_run_goes_on_with_its_images_in_another_place(
    first: str, folder: Path, grow: Callable, tmp_path: Path
) -> None:
    command = (*RUN, *NETS["tiny"], f"dataset.path={folder}", f"dataset.storage={first}")
    assert grow(*command, "run_dir=whole").code == 0
    assert grow(*command, "run_dir=parts", "stop.growth_events=1").code == 0
    done = grow(
        "resume", "parts", "stop.growth_events=9", f"dataset.storage={'mapped' if first == 'memory' else 'memory'}"
    )
    assert done.code == 0, done.err
    rows = [row for row in rows_without_clocks(tmp_path / "parts") if row["train_loss"]]  # not that of the interruption
    assert len(rows) >= 3
    assert rows == rows_without_clocks(tmp_path / "whole")


# ---- the file


def test_of_several_jobs_that_start_at_once_one_decodes_and_the_others_wait(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode, decoded_now, waiting = images._pixels, [], threading.Event()

    def counted(path: Any, decoding: images.Decoding) -> np.ndarray:
        decoded_now.append(path)
        assert waiting.wait(20)  # until another job has found the lock taken
        return decode(path, decoding)

    def said(sentence: str) -> None:
        print(sentence)
        waiting.set()

    monkeypatch.setattr(images, "_pixels", counted)
    monkeypatch.setattr(decoded, "note", said)
    found: list[torch.Tensor] = []
    jobs = [threading.Thread(target=lambda: found.append(folders.read_tree(folder, None).train_x)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(found) == 4
    assert all(torch.equal(x, found[0]) for x in found)
    assert len(decoded_now) == 50 + 1  # the first one says how large the images are
    assert "Another job is decoding these images" in capsys.readouterr().out
    assert [path.suffix for path in cache.iterdir()] == [".images"]


def test_what_a_killed_job_and_an_older_version_have_left_is_removed(folder: Path, cache: Path) -> None:
    load(folder, "mapped")
    (file,) = cache.iterdir()
    file.rename(file.with_suffix(".pt"))
    (cache / f".{file.name}.123.tmp").write_bytes(b"half")
    load(folder, "mapped")
    assert list(cache.iterdir()) == [file]


def test_sums_and_counts_beside_the_images_are_those_of_the_pixels(tmp_path: Path) -> None:
    for shape in ((5, 3, 6, 7), (3, 1, 256, 257)):  # beyond 65,535 pixels a count takes four bytes
        x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
        x[0] = 9
        write_decoded(tmp_path / "file", "print", shape, lambda put, x=x: list(map(put, range(len(x)), x)))  # type: ignore[misc]
        file = open_decoded(tmp_path / "file", "print")
        assert file is not None
        assert (tmp_path / "file").stat().st_size == decoded.size_of(shape)
        assert np.array_equal(file.pixels.numpy(), x)
        labels = torch.zeros(len(x), dtype=torch.int64)
        assert fingerprint(file.pixels, labels, file.sums) == fingerprint(torch.from_numpy(x), labels)
        chosen = np.array([0, 2])
        expected = [np.bincount(x[chosen, c].ravel(), minlength=256) for c in range(shape[1])]
        assert np.array_equal(file.counted(chosen).numpy(), expected)
        assert open_decoded(tmp_path / "file", "another") is None


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50], lambda b: b"{}" + b[2:], lambda b: b""])
def test_a_damaged_file_is_no_file(damage: Callable[[bytes], bytes], folder: Path, cache: Path) -> None:
    expected = load(folder, "mapped").test.x[:]
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(load(folder, "mapped").test.x[:], expected)


def test_a_disk_without_room_is_a_sentence_or_where_memory_has_room_a_warning(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(
        UserError, match=r"cannot be kept in .*0.0 GB are free\): make room there, set XDG_CACHE_HOME"
    ) as error:
        load(folder, "mapped")
    assert "\n" not in str(error.value)
    assert isinstance(load(folder, "auto").train.x, torch.Tensor)
    assert "no cache written" in caplog.text
    monkeypatch.setattr(mapped, "free_memory", lambda: 100)
    with pytest.raises(UserError, match=r"make room there"):
        load(folder, "auto")
    assert not list(cache.iterdir())


def test_a_disk_that_fills_up_on_the_way_leaves_nothing_behind(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match="No space left on device"):
        load(folder, "mapped")
    assert not list(cache.iterdir())


def test_a_limit_of_the_address_space_below_the_file_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(np, "memmap", refused)
    with pytest.raises(UserError, match=r"no address space for a map of 0.0 GB: raise the limit of `ulimit -v`"):
        load(folder, "auto")


# ---- when a set is read from its file


def test_a_set_stays_in_memory_unless_it_takes_more_than_half_of_what_is_free(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = 50 * 3 * 7 * 9
    monkeypatch.setattr(mapped, "free_memory", lambda: 2 * (size + 4 * size))  # the bytes, and the same as float32
    assert isinstance(load(folder, "auto").train.x, torch.Tensor)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(mapped, "free_memory", lambda: 2 * (size + 4 * size) - 2)
    assert isinstance(load(folder, "auto").train.x, Rows)
    assert "each batch is read from" in capsys.readouterr().err


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_heeds_the_limit_of_a_container(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        1: (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
        2: ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    }
    limit, used, stat, field = names[version]
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("50000\n")
    (tmp_path / used).write_text("30000\n")
    (tmp_path / stat).write_text(f"anon 7\n{field} 4000\n")
    monkeypatch.setattr(mapped, "_CONTROL", tmp_path)
    assert free_memory() == 24000
    (tmp_path / limit).write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    assert free_memory() > 10**6


@pytest.mark.parametrize(("limit", "field"), [(resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")])
def test_free_memory_heeds_ulimit(limit: int, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used = of_status(os.getpid(), field)
    allowed = {limit: used + 10**7}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (allowed.get(which, resource.RLIM_INFINITY), -1))
    assert abs(free_memory() - 10**7) < 5 * 10**6
    allowed[limit] = used // 2
    assert free_memory() == 0


def test_on_a_gpu_two_page_locked_buffers_are_filled_in_turn_and_never_while_they_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is played by the CPU: what counts is the order of waiting, filling and copying."""
    told: list[str] = []

    class Event:
        number = 0

        def __init__(self) -> None:
            self.name, Event.number = str(Event.number), Event.number + 1

        def synchronize(self) -> None:
            told.append(f"wait {self.name}")

        def record(self, stream: object) -> None:
            told.append(f"copy {self.name}")

    def page_locked(shape: tuple[int, ...]) -> torch.Tensor:
        told.append("buffer")
        return torch.empty(shape, dtype=torch.uint8)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(mapped, "_page_locked", page_locked)
    data = load(folder, "mapped")
    assert isinstance(data.train.x, Rows)
    assert data.train.x._buffers is None  # on the CPU there is nothing of this
    x = data.train.x._file.pixels
    buffers = mapped._Buffers(CPU)
    for rows in torch.arange(20).split(4):
        assert torch.equal(buffers.moved(x, rows), x[rows])
    assert told == [
        *("wait 1", "buffer", "copy 1", "wait 0", "buffer", "copy 0"),
        *("wait 1", "copy 1", "wait 0", "copy 0", "wait 1", "copy 1"),
    ]


def of_status(process: int, field: str) -> int:
    """`VmSize`, `VmData`, in bytes."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
