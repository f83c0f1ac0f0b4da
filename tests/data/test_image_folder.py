"""Folders of images: decoding, the cache, and what is wrong with a tree."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from grow_cli.data import decoded, images
from grow_cli.data.base import RawData
from grow_cli.data.datasets.image_folder import ImageFolder
from grow_cli.data.tensors import load_data
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
    assert [path.suffix for path in cache.iterdir()] == [".images"]
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
        "import os, signal, sys, pathlib\n"
        "from grow_cli.data import decoded, folders\n"
        "decoded.Writer.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "folders.read_tree(pathlib.Path(sys.argv[1]), None)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tree)], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert not list(cache.glob("*.images"))
    assert list(cache.glob(".*.tmp"))
    assert len(load(tree).train_x) == 6
    assert [path.suffix for path in cache.iterdir()] == [".images"]


def test_an_interrupt_while_the_cache_is_written_cleans_up(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoded.Writer, "finish", interrupted)
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
    (tree / "test").rename(tree / "elsewhere")


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
    assert not list(cache.glob("*"))


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


# ---- what users of other trainers bring along


def test_an_image_is_turned_as_its_exif_orientation_says(tree: Path) -> None:
    for orientation in range(1, 9):
        shown = picture(orientation)
        image = Image.fromarray(shown)
        exif = Image.Exif()
        exif[0x0112] = orientation
        # what a camera stores: turned by the inverse of what a viewer does
        inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
        stored = image if inverse is None else image.transpose(Image.Transpose(inverse))
        for suffix in ("png", "tiff", "webp"):
            for path in tree.rglob("*.*"):
                path.unlink()
            for path in (tree / split / name / f"0.{suffix}" for split in ("train", "test") for name in ("cat", "dog")):
                stored.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
            found = load(tree).train_x[0].permute(1, 2, 0).numpy()
            assert np.array_equal(found, shown), (orientation, suffix)


def test_damaged_exif_leaves_the_image_as_it_is(tree: Path) -> None:
    for path in tree.rglob("*.png"):
        Image.fromarray(picture(0)).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    assert np.array_equal(load(tree).train_x[0].permute(1, 2, 0).numpy(), picture(0))


def _see_through(mode: str) -> Image.Image:
    """An image of this mode whose left half is transparent and whose right half is an opaque 100."""
    alpha = np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 4, axis=0)
    level = np.where(alpha == 0, 7, 100).astype(np.uint8)
    if mode in ("LA", "RGBA"):
        return Image.fromarray(np.stack([*[level] * (len(mode) - 1 if mode == "RGBA" else 1), alpha], 2), mode)
    image = Image.fromarray(level)
    if mode == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = (7, 7, 7)
    elif mode == "P":
        image = image.convert("P")
        image.info["transparency"] = bytes(0 if i == 7 else 255 for i in range(256))
    else:
        image.info["transparency"] = 7
    return image


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB"])
@pytest.mark.parametrize("background", [0, 255, 31])
def test_transparency_is_composed_on_the_background_without_a_warning(
    mode: str, background: int, tree: Path, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in tree.rglob("*.png"):
        image = _see_through(mode)
        image.save(path, **({"transparency": image.info["transparency"]} if "transparency" in image.info else {}))
    x = load(tree, background=background).train_x
    assert x.shape[1] == (1 if mode in ("LA", "L") else 3)
    assert (x[..., :2] == background).all()
    assert (x[..., 2:] == 100).all()
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_a_grey_image_with_transparency_leaves_a_grey_set_grey(tree: Path) -> None:
    for path in tree.rglob("*.png"):
        save(path, picture(0, grey=True))
    _see_through("LA").resize((5, 4)).save(tree / "train" / "cat" / "0.png")
    assert load(tree).train_x.shape == (6, 1, 4, 5)


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "THUMBS.DB", ".DS_Store", "desktop.ini", "._0.png", ".nomedia", "__MACOSX", "@eaDir"]
)
def test_what_file_managers_leave_behind_is_ignored_at_every_level(name: str, tree: Path) -> None:
    expected = load(tree)
    for folder in (tree, tree / "train", tree / "test", tree / "train" / "cat", tree / "test" / "dog"):
        (folder / name).mkdir() if name.startswith(("__", "@")) else (folder / name).write_bytes(b"\0junk")
    found = load(tree)
    assert torch.equal(found.train_x, expected.train_x)
    assert torch.equal(found.test_x, expected.test_x)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_without_test_the_validation_folder_is_the_test_part_and_the_user_is_told(
    name: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = load(tree)
    (tree / "test").rename(tree / name)
    assert torch.equal(load(tree).test_x, expected.test_x)
    assert f"{name}/ is used as the test part" in capsys.readouterr().err.replace("\n", " ")
    shutil.copytree(tree / name, tree / "test")
    assert torch.equal(load(tree).test_x, expected.test_x)
    assert f"{name} is not read" in capsys.readouterr().err.replace("\n", " ")


def _flat(root: Path, counts: dict[str, int]) -> Path:
    for label, (name, n) in enumerate(counts.items()):
        for i in range(n):
            save(root / name / f"{i:02d}.png", np.full((2, 2), 50 * label + i, np.uint8))
    return root


def _values(x: torch.Tensor) -> list[int]:
    return x[:, 0, 0, 0].tolist()


def test_a_flat_folder_gives_a_fifth_of_each_class_to_the_test_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _flat(tmp_path / "flat", {"a": 20, "b": 7, "c": 2})
    (root / "README.md").touch()
    raw = load(root)
    assert raw.test_y.bincount().tolist() == [4, 1, 1]
    assert raw.train_y.bincount().tolist() == [16, 6, 1]
    assert sorted(_values(raw.train_x) + _values(raw.test_x)) == [*range(20), *range(50, 57), 100, 101]
    said = capsys.readouterr().err.replace("\n", " ")
    assert "6 of 29 images" in said
    assert "dataset.test_seed=0" in said


def test_the_test_part_of_a_flat_folder_follows_its_own_seed_and_hardly_moves_when_images_come(tmp_path: Path) -> None:
    root = _flat(tmp_path / "flat", {"a": 20, "b": 20})
    first = load(root)
    for keys in ({"split_seed": 5}, {"validation": 0.5}):
        assert torch.equal(load(root, **keys).test_x, first.test_x)  # type: ignore[arg-type]
    assert not torch.equal(load(root, test_seed=1).test_x, first.test_x)
    moved = root.rename(tmp_path / "elsewhere")
    assert torch.equal(load(moved).test_x, first.test_x)
    save(moved / "a" / "20.png", np.full((2, 2), 20, np.uint8))
    assert len(set(_values(first.test_x)) ^ set(_values(load(moved).test_x))) <= 2


@pytest.mark.parametrize("counts", [{"a": 5, "b": 1}, {"a": 5}, {}])
def test_a_flat_folder_that_cannot_be_split_is_a_sentence(counts: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    with pytest.raises(UserError, match=r"2 or more"):
        load(_flat(tmp_path / "flat", counts))


def test_a_tree_without_a_training_part_says_so(tree: Path) -> None:
    shutil.rmtree(tree / "train")
    raw = load(tree)
    assert raw.test_only
    assert (len(raw.train_x), len(raw.test_x)) == (0, 4)
    option = ImageFolder(name="image_folder", path=str(tree))
    with pytest.raises(UserError, match="a test part but no training part"):
        load_data(option, data_dir=tree, subset=None, device=torch.device("cpu"))


# ---- changed files, whatever they say of themselves


@pytest.mark.parametrize("way", ["in place", "renamed over", "link retargeted"])
def test_a_changed_file_is_noticed_whatever_its_size_and_times_say(way: str, tree: Path, tmp_path: Path) -> None:
    path = tree / "train" / "cat" / "0.bmp"  # of constant size, whatever the pixels
    real = tmp_path / "real.bmp"
    save(real if way == "link retargeted" else path, picture(1))
    if way == "link retargeted":
        path.symlink_to(real)
    for seed in range(2, 6):
        load(tree)
        before = path.stat()
        other = tmp_path / f"{seed}.bmp"
        save(other, picture(seed))
        if way == "in place":
            path.write_bytes(other.read_bytes())
        elif way == "renamed over":
            os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
            other.rename(path)
        else:
            path.unlink()
            path.symlink_to(other)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        assert np.array_equal(load(tree).train_x[0].permute(1, 2, 0).numpy(), picture(seed)), seed


# ---- files that are made to do harm


def _eps(path: Path) -> None:
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(%pipe%touch owned) (r) file\n%%EOF\n"
    )


@pytest.mark.parametrize("suffix", ["eps", "png", "jpg"])
def test_only_raster_formats_are_opened_and_ghostscript_is_never_asked(
    suffix: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    def called(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", called)
    _eps(tree / "train" / "cat" / f"0.{suffix}")
    with pytest.raises(UserError, match=r"is not an image in a format that grow reads \(JPEG, PNG"):
        load(tree)


def test_no_format_that_is_read_starts_a_program() -> None:
    Image.init()
    assert not {"EPS", "WMF", "PDF", "MPEG"} & set(images._FORMATS)
    assert set(images._FORMATS) <= set(Image.OPEN)


def _claims(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, and that holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(20_000, 9_000), (2**31 - 1, 2**31 - 1), (14_000, 7_000)])
def test_an_image_that_claims_to_be_huge_is_a_sentence_and_no_warning(
    width: int, height: int, tree: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tree / "train" / "cat" / "0.png"
    path.write_bytes(_claims(width, height))
    with pytest.raises(UserError, match=r"cat/0.png (has \(or claims to have\) more than|cannot be read as an image)"):
        load(tree)
    assert not recwarn.list


@pytest.mark.slow
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_image_is_read_or_refused_in_a_sentence_and_no_library_says_anything(
    tree: Path, capfd: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    kinds = ["PNG", "JPEG", "GIF", "TIFF", "tiff_lzw", "tiff_adobe_deflate", "WEBP", "BMP", "PPM", "JPEG2000"]
    kind, compressed = data.draw(st.sampled_from(kinds)), {}
    if kind.startswith("tiff_"):
        kind, compressed = "TIFF", {"compression": kind}
    buffer = io.BytesIO()
    Image.fromarray(picture(3)).save(buffer, kind, **compressed)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    (tree / "train" / "cat" / "0.png").write_bytes(content)
    with contextlib.suppress(UserError):
        load(tree, size=4)
    assert capfd.readouterr() == ("", "")


def test_what_libtiff_says_by_itself_is_not_shown(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(3)).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    content = bytearray(buffer.getvalue())
    content[12:40] = b"\xff" * 28
    (tree / "train" / "cat" / "0.png").write_bytes(content)
    with pytest.raises(UserError, match=r"cat/0.png"):
        load(tree)
    assert capfd.readouterr() == ("", "")


def test_what_is_done_to_an_image_is_told(tree: Path) -> None:
    told = load(tree, size=3, background=0).image
    assert told["size"] == 3
    assert told["background"] == 0
    assert told["colour"] == "RGB"
    assert "EXIF" in told["orientation"]
    assert "bilinear" in told["filter"]
    assert "fit" in told["fit"]
    assert load(tree).image["size"] is None
