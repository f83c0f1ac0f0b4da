"""Folders of images: decoding, the cache, and what is wrong with a tree."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grow_cli.data import images
from grow_cli.data.base import RawData
from grow_cli.data.datasets.image_folder import ImageFolder
from grow_cli.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "grow" / "image_folder"


def picture(seed: int, height: int = 4, width: int = 5, grey: bool = False) -> np.ndarray:
    shape = (height, width) if grey else (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """cat and dog, three training and two test images each, (3, 4, 5)."""
    root = tmp_path / "pets"
    for split, n in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(n):
                save(root / split / name / f"{i}.png", picture(100 * (split == "test") + 10 * label + i))
    return root


def load(root: Path, **keys: int) -> RawData:
    return ImageFolder(name="image_folder", path=str(root), **keys).load(Path("/nowhere"))


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(images, "_pixels", refuse)


def test_images_are_read_in_the_order_of_class_and_name(tree: Path) -> None:
    raw = load(tree)
    assert raw.classes == ("cat", "dog")
    assert raw.train_x.dtype == torch.uint8
    assert raw.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert raw.test_y.tolist() == [0, 0, 1, 1]
    for seed, image in zip((0, 1, 2, 10, 11, 12), raw.train_x, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), picture(seed))
    assert np.array_equal(raw.test_x[-1].permute(1, 2, 0).numpy(), picture(111))


def test_without_a_path_the_tree_is_data_dir_itself(tree: Path) -> None:
    assert torch.equal(ImageFolder(name="image_folder").load(tree).train_x, load(tree).train_x)


def test_grey_images_have_one_channel_unless_one_image_has_colours(tree: Path) -> None:
    for path in tree.rglob("*.png"):
        save(path, picture(0, grey=True))
    assert load(tree).train_x.shape == (6, 1, 4, 5)
    save(tree / "test" / "dog" / "1.png", picture(1))
    raw = load(tree)
    assert raw.train_x.shape == (6, 3, 4, 5)
    assert (raw.train_x.numpy() == picture(0, grey=True)).all()


def test_many_images_keep_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_CHUNK", 4)
    for split in ("train", "test"):
        for name in ("a", "b"):
            for i in range(25):
                save(tmp_path / split / name / f"{i:02d}.png", np.full((2, 2), i, np.uint8))
    assert load(tmp_path).train_x[:, 0, 0, 0].tolist() == [*range(25), *range(25)]


def test_the_second_load_comes_from_the_cache(tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tree)
    assert [path.suffix for path in cache.iterdir()] == [".pt"]
    forbid_decoding(monkeypatch)
    again = load(tree)
    for name in ("train_x", "train_y", "test_x", "test_y"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.classes == again.classes


def test_any_change_of_the_tree_makes_the_cache_stale(tree: Path) -> None:
    before = load(tree)
    path = tree / "train" / "cat" / "0.png"
    save(path, picture(99))
    assert np.array_equal(load(tree).train_x[0].permute(1, 2, 0).numpy(), picture(99))
    (tree / "train" / "cat" / "2.png").unlink()
    assert len(load(tree).train_x) == 5
    save(tree / "test" / "dog" / "7.png", picture(7))
    assert len(load(tree).test_x) == 5
    for split in ("train", "test"):
        (tree / split / "cat").rename(tree / split / "zebra")
    assert load(tree).classes == ("dog", "zebra")
    assert len(before.train_x) == 6


def test_a_file_replaced_by_one_of_the_same_size_is_noticed(tree: Path) -> None:
    path = tree / "train" / "cat" / "0.bmp"  # of constant size, whatever the pixels
    save(path, picture(1))
    load(tree)
    save(path, picture(2))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert np.array_equal(load(tree).train_x[0].permute(1, 2, 0).numpy(), picture(2))


def test_each_size_has_a_cache_of_its_own(tree: Path, cache: Path) -> None:
    assert load(tree).train_x.shape[2:] == (4, 5)
    assert load(tree, size=3).train_x.shape[2:] == (3, 3)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_cache_is_decoded_again(tree: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(tree)
    file = next(cache.iterdir())
    file.write_bytes(file.read_bytes()[:-500])
    assert torch.equal(load(tree).train_x, first.train_x)
    assert "decoding the images again" in caplog.text
    caplog.clear()
    load(tree)
    assert not caplog.text


def test_a_kill_while_the_cache_is_written_leaves_no_bad_cache(tree: Path, cache: Path) -> None:
    code = (
        "import os, signal, sys, pathlib, torch\n"
        "from grow_cli.data import images\n"
        "def half(content, file):\n"
        "    file.write(b'PK half a cache'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = half\n"
        "images.read_tree(pathlib.Path(sys.argv[1]), None)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tree)], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert not list(cache.glob("*.pt"))
    assert len(load(tree).train_x) == 6
    assert len(list(cache.glob("*.pt"))) == 1


def test_an_interrupt_while_the_cache_is_written_cleans_up(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(tree)
    assert not list(cache.iterdir())


def test_where_no_cache_can_be_written_the_images_are_still_read(
    tree: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.parent.write_text("a file where the folder should be")
    assert len(load(tree).train_x) == 6
    assert "no cache written" in caplog.text


def test_hidden_files_and_what_lies_beside_the_splits_are_ignored(tree: Path) -> None:
    (tree / "README.md").touch()
    (tree / "train" / ".DS_Store").touch()
    (tree / "train" / "cat" / "._0.png").touch()
    (tree / "test" / ".cache").mkdir()
    assert len(load(tree).train_x) == 6


def test_images_of_several_sizes_need_the_key_size(tree: Path) -> None:
    save(tree / "test" / "dog" / "0.png", picture(0, height=8, width=6))
    with pytest.raises(UserError, match=r"5×4 pixels, .*test/dog/0.png 6×8.*dataset.size="):
        load(tree)
    assert load(tree, size=4).test_x.shape == (4, 3, 4, 4)


def test_scaling_crops_the_longer_side_at_both_ends(tree: Path) -> None:
    stripes = np.repeat(np.array([[0, 50, 50, 50, 50, 200]], np.uint8), 4, axis=0)  # (4, 6): the ends go
    for path in tree.rglob("*.png"):
        save(path, stripes)
    assert (load(tree, size=4).train_x == 50).all()


def _remove_test(tree: Path) -> None:
    (tree / "test").rename(tree / "validation")


def _one_class_more(tree: Path) -> None:
    save(tree / "train" / "fish" / "0.png", picture(0))


def _one_class_only(tree: Path) -> None:
    for split in ("train", "test"):
        (tree / split / "dog").rename(tree / "elsewhere" if split == "test" else tree / "away")


def _text_file(tree: Path) -> None:
    (tree / "train" / "dog" / "notes.txt").write_text("good dog")


def _truncated(tree: Path) -> None:
    path = tree / "test" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:70])


def _empty_file(tree: Path) -> None:
    (tree / "test" / "cat" / "1.png").write_bytes(b"")


def _image_without_class(tree: Path) -> None:
    save(tree / "train" / "stray.png", picture(0))


def _nested(tree: Path) -> None:
    save(tree / "train" / "cat" / "kittens" / "0.png", picture(0))


def _empty_class(tree: Path) -> None:
    for split in ("train", "test"):
        (tree / split / "fish").mkdir()


def _sixteen_bits(tree: Path) -> None:
    save(tree / "train" / "cat" / "0.png", np.zeros((4, 5), np.uint16))


def _broken_link(tree: Path) -> None:
    (tree / "train" / "cat" / "9.png").symlink_to(tree / "gone.png")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_remove_test, r"pets has no folder test/: put the images into .*test/<class>/"),
        (_one_class_more, r"the class folder fish is in only one of train/ and test/"),
        (_one_class_only, r"train holds 1 class folders"),
        (_text_file, r"train/dog/notes.txt is not an image"),
        (_truncated, r"test/cat/1.png cannot be read as an image"),
        (_empty_file, r"test/cat/1.png is not an image"),
        (_image_without_class, r"train/stray.png is a file, not a class folder"),
        (_nested, r"train/cat/kittens is a folder, not an image"),
        (_empty_class, r"train/fish holds no image"),
        (_sixteen_bits, r"train/cat/0.png has more than 8 bits"),
        (_broken_link, r"train/cat/9.png cannot be read \(No such file"),
    ],
)
def test_what_is_wrong_with_a_tree_is_said_in_one_sentence(spoil, sentence: str, tree: Path, cache: Path) -> None:
    spoil(tree)
    with pytest.raises(UserError, match=sentence) as error:
        load(tree)
    assert "\n" not in str(error.value)
    assert not cache.exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_decoding_shows_a_bar_on_a_terminal_and_nothing_elsewhere(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "_BAR_AFTER_SECONDS", 0.0)
    load(tree)
    assert capsys.readouterr() == ("", "")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    load(tree, size=4)
    assert "decoding images" in terminal.getvalue()
    assert "10/10" in terminal.getvalue()
    quick = _Terminal()
    monkeypatch.setattr(sys, "stderr", quick)
    monkeypatch.setattr(images, "_BAR_AFTER_SECONDS", 60.0)
    load(tree, size=3)
    assert quick.getvalue() == ""
