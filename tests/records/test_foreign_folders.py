"""A run folder that somebody else made: what it holds is data, its links are not followed, its names are its own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from grow_cli.errors import UserError
from grow_cli.files import append_text, make_folder, open_lock, read_bytes, write_text
from grow_cli.records import plain_yaml
from grow_cli.records.configs import as_data
from grow_cli.records.folder import _OURS, RunFolder
from grow_cli.records.mistakes import _CELLS, _TEXTS, read_mistakes

PNG = b"\x89PNG\r\n\x1a\nrest"


def _mistakes(folder: Path, picture: str) -> None:
    (folder / "mistakes").mkdir(exist_ok=True)
    cells = dict.fromkeys((*_CELLS, *_TEXTS), "1") | {"picture": picture}
    (folder / "mistakes/mistakes.csv").write_text(",".join(cells) + "\n" + ",".join(cells.values()) + "\n")


@given(
    st.sampled_from(["../secret.png", "/etc/hostname", "..", "", "a/neuron-001.png", "mistakes.csv", "neuron-1.png"])
    | st.text(
        st.characters(blacklist_characters=',"\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029', blacklist_categories=["Cs"])
    )
)
@settings(max_examples=60, deadline=None)
def test_a_picture_is_named_as_the_run_names_it_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("r")
    (folder.parent / "secret.png").write_bytes(PNG)
    _mistakes(folder, name)
    with pytest.raises(UserError, match=r"mistakes\.csv is damaged"):
        read_mistakes(RunFolder(folder))


def test_a_picture_is_an_ordinary_file_with_a_pngs_signature(tmp_path: Path) -> None:
    _mistakes(tmp_path, "neuron-001.png")
    picture = tmp_path / "mistakes/neuron-001.png"
    assert read_mistakes(RunFolder(tmp_path))[0].png is None
    picture.write_bytes(PNG)
    assert read_mistakes(RunFolder(tmp_path))[0].png == PNG
    picture.write_bytes(b"root:x:0:0")
    with pytest.raises(UserError, match="no PNG"):
        read_mistakes(RunFolder(tmp_path))
    picture.unlink()
    (tmp_path / "other.png").write_bytes(PNG)
    picture.symlink_to(tmp_path / "other.png")
    with pytest.raises(UserError, match="is a link"):
        read_mistakes(RunFolder(tmp_path))
    picture.unlink()
    os.rename(tmp_path / "mistakes", tmp_path / "elsewhere")
    (tmp_path / "mistakes").symlink_to("elsewhere")
    with pytest.raises(UserError, match="is a link"):
        read_mistakes(RunFolder(tmp_path))


@pytest.mark.parametrize("name", _OURS)
def test_a_folder_is_not_claimed_where_a_file_of_the_runs_is_a_link(name: str, tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "r"
    folder.mkdir()
    victim.write_text("keep me")
    (folder / name).symlink_to(victim)
    claimed = RunFolder(folder)
    for claim in (lambda: claimed.create({"config": {"seed": 1}}), lambda: _open(claimed)):
        with pytest.raises(UserError, match=r"is a symbolic link|is not a run folder"):
            claim()
    claimed.close()
    assert victim.read_text() == "keep me"


def _open(folder: RunFolder) -> None:
    if not (folder.path / ".hydra").exists():
        (folder.path / ".hydra").mkdir()
    if folder.hydra.is_dir():
        (folder.hydra / "config.yaml").write_text("seed: 1\n")
    folder.open()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("keep me")
    link.symlink_to(victim)
    for act in (lambda: append_text(link, "x"), lambda: open_lock(link), lambda: read_bytes(link, 10)):
        with pytest.raises(OSError, match="is a link"):
            act()
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("folder")
    with pytest.raises(OSError, match="is a link"):
        make_folder(tmp_path / "linked")
    (tmp_path / f".new.{os.getpid()}.tmp").symlink_to(victim)
    write_text(tmp_path / "new", "text")
    write_text(link, "replaced")
    assert (victim.read_text(), link.read_text(), link.is_symlink()) == ("keep me", "replaced", False)
    lock = tmp_path / "lock"
    lock.write_text("content")
    os.close(open_lock(lock))
    assert lock.read_text() == "content"


_PIECES = st.sampled_from(["${", "}", "\\", "$", "oc.env:HOME", "method.name", "${x}", ".", ":", "'", '"', " ", "a"])
_TEXT = st.lists(_PIECES, max_size=8).map("".join)


@given(st.dictionaries(st.sampled_from("abc"), _TEXT | st.lists(_TEXT, max_size=2), max_size=3))
@settings(max_examples=300, deadline=None)
def test_text_of_a_folder_is_given_back_as_it_is(data: dict[str, Any]) -> None:
    assert plain_yaml.load(plain_yaml.dump(data)) == data
    assert OmegaConf.to_container(OmegaConf.create(as_data(data)), resolve=True) == data


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | _TEXT
    | st.sampled_from(["1e3", "1:30", "2024-01-01", "on", "null", "~", ".5", "1_0", "0x1f", "=", "<<"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("abc"), _VALUES))
@settings(max_examples=200, deadline=None)
def test_plain_yaml_reads_what_it_writes_and_what_hydra_writes(data: dict[str, Any]) -> None:
    assert plain_yaml.load(plain_yaml.dump(data)) == data
    if "${" not in repr(data):
        assert plain_yaml.load(OmegaConf.to_yaml(OmegaConf.create(data))) == data


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n", "[" * 100_000, "a: !!python/object/apply:os.system [ls]", "a: !!set {1}", "a: [", "\tx: 1",
        "a: !!timestamp 2024-01-01", "? [1]\n: 2", "a: " + "9" * 5000,
    ],
    ids=range(9),
)  # fmt: skip
def test_yaml_that_is_no_plain_data_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+") as error:
        plain_yaml.load(text)
    assert len(str(error.value).splitlines()) == 1


TINY = (
    "dataset=moons",
    "dataset.samples=60",
    "model=mlp",
    "model.hidden=[2]",
    "method=static",
    "stop.epochs=1",
    "progress=off",
)


@pytest.mark.slow
def test_a_typed_interpolation_is_stored_as_what_it_was_and_read_as_text(
    grow: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    assert grow("train", *TINY, "run_dir=r", "label='${method.name}'").code == 0
    folder = RunFolder(tmp_path / "r")
    assert (folder.config()["label"], folder.read_summary()["label"]) == ("static", "static")
    assert folder.overrides()[-1].startswith("label=")
    for text in ("${oc.env:SECRET}", "${method.name}", "${", "${nowhere:"):
        config = folder.hydra / "config.yaml"
        config.write_text(plain_yaml.dump(dict(folder.config()) | {"label": text}))
        (folder.path / "summary.json").unlink(missing_ok=True)
        outcome = grow("resume", "r")
        assert outcome.code == 0, outcome.err
        assert folder.read_summary()["label"] == text
        assert "hunter2" not in (folder.path / "summary.json").read_text() + outcome.out + outcome.err
    folder.hydra.joinpath("config.yaml").write_text(
        plain_yaml.dump(dict(folder.config()) | {"label": "${oc.env:SECRET}"})
    )
    assert grow("report", "r").code == 0
    assert "hunter2" not in (tmp_path / "r/report.html").read_text()


def test_a_number_that_an_earlier_grow_stored_as_a_reference_is_that_number(
    grow: Callable[..., Any], tmp_path: Path
) -> None:
    from grow_cli.records.configs import typed

    outcome = grow("train", "--cfg", "job", "method=senn", "trigger=eta", "method.tau=1.5")
    raw = plain_yaml.load(outcome.out)
    assert raw["trigger"]["tau"] == "${oc.select:method.tau,1.007}"
    assert typed(raw).trigger.tau == 1.5
    assert typed(raw | {"method": {"name": "static"}}).trigger.tau == 1.007


def test_two_names_of_one_folder_are_refused(grow: Callable[..., Any], tmp_path: Path) -> None:
    for typed in (("hydra.run.dir=a",), ("-m", "hydra.sweep.dir=a")):
        outcome = grow("train", *TINY, "run_dir=b", *typed)
        assert (outcome.code, "one would be ignored" in outcome.err) == (2, True), outcome.err
    assert not list(tmp_path.iterdir())


def test_what_a_kill_leaves_is_removed_when_the_folder_is_used_again(tmp_path: Path) -> None:
    from grow_cli.commands.sweep import remove_spools

    folder = RunFolder(tmp_path / "r")
    folder.create({"config": {"seed": 1}})
    folder.close()
    for place in (".hydra", "checkpoints", "mistakes", "."):
        (folder.path / place).mkdir(exist_ok=True)
        (folder.path / place / ".x.123.tmp").write_text("half")
    folder.open()
    folder.close()
    assert not list(folder.path.rglob("*.tmp"))
    for name, age in ((".jobs-old", 10**6), (".jobs-new", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (os.stat(tmp_path).st_mtime - age,) * 2)
    remove_spools(tmp_path)
    assert [path.name for path in tmp_path.glob(".jobs-*")] == [".jobs-new"]


def test_characters_without_a_glyph_are_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.figure import Figure

    from grow_cli.analysis.figures import save

    figure = Figure(figsize=(1, 1))
    figure.suptitle("漢字 and \u0e01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "x.png")
    assert "lacks some characters" in " ".join(capsys.readouterr().err.split())


def test_one_thing_is_counted_in_the_singular() -> None:
    from grow_cli.records.words import are, counted, were

    assert [counted(n, "step") for n in (0, 1, 2, 1234)] == ["0 steps", "1 step", "2 steps", "1,234 steps"]
    assert [counted(n, "loss", "losses") for n in (1, 2)] == ["1 loss", "2 losses"]
    assert [(were(n), are(n)) for n in (1, 2)] == [("was", "is"), ("were", "are")]
