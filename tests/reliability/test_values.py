"""Values are taken as they are typed, or refused before anything is trained."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from omegaconf import OmegaConf

from grow_cli import registry, schema
from grow_cli.commands.composition import flags_first, literal
from grow_cli.commands.train import compose
from grow_cli.config import Config
from grow_cli.errors import UserError
from grow_cli.keys import check_ranges, key

SHORT = ("subset=60", "stop.steps=2", "evaluate.every=1", "evaluate.unit=steps", "progress=off", "method=static")
NUMBERS = ("2024_11_25", "1_0", "1e3", "1.50", "-1", "007", "true", "off", "inf", "nan", "0x10", ".5")


@pytest.mark.parametrize("text", NUMBERS)
def test_a_key_of_text_keeps_what_was_typed_whatever_it_looks_like(text: str) -> None:
    config = compose([f"label={text}", f"run_dir={text}", *SHORT])
    assert (config.label, config.run_dir) == (text, text)


def test_null_words_quotes_and_interpolations_mean_what_they_mean_to_hydra() -> None:
    for override in (
        "label=null",
        "label=plain",
        "label='1'",
        "label=${seed}",
        "seed=1_0",
        "label=[a]",
        "label",
        "~label",
    ):
        assert literal(override) == override
    assert compose(["label=null", *SHORT]).label is None
    assert compose(["label=${seed}", "seed=1_0", *SHORT]).label == "10"


@pytest.mark.slow
def test_each_text_of_a_sweep_is_a_job_of_its_own_under_the_name_that_was_typed(grow: Callable, tmp_path: Path) -> None:
    assert grow("train", "-m", *SHORT, "label=1_0,10", "run_dir=20_24").code == 0
    found = sorted(json.loads(p.read_text())["label"] for p in (tmp_path / "20_24").glob("*/summary.json"))
    assert found == ["10", "1_0"]
    again = grow("train", "-m", *SHORT, "label=1_0,10", "run_dir=20_24")
    assert "2 of 2 jobs were finished already" in again.out


def test_every_key_of_text_is_known_as_one() -> None:
    for group, options in registry.groups().items():
        for cls in options.values():
            for f in fields(cls):
                text = get_type_hints(cls)[f.name] in (str, str | None)
                assert schema.is_text(f"{group}.{f.name}") or not text, (group, f.name)
    assert not schema.is_text("seed")
    assert not schema.is_text("nothing.of.the.kind")


@pytest.mark.slow
def test_paths_are_recorded_from_the_root_on(grow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert grow("train", *SHORT, "data_dir=here", "run_dir=run").code == 0
    config = OmegaConf.load(tmp_path / "run/.hydra/config.yaml")
    assert config.data_dir == str(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "run")
    assert grow("eval", tmp_path / "run").code == 0
    declared = [f"{g}.{f.name}" for g, o in registry.groups().items() for c in o.values() for f in fields(c)]
    paths = [name for name in declared if name.endswith((".path", ".folder", ".dir"))]
    assert set(paths) == {"dataset.path"}, "a new path: declare it with key(..., path=True) and name it here"


# `math.nan` cannot be typed for an integer; OmegaConf refuses it
WRONG = {int: (2**53, 2**70, -(2**70)), float: (math.nan, math.inf, -math.inf)}


def _numeric() -> list[tuple[str, Any, str, type]]:
    holders = [(g, c) for g, o in registry.groups().items() for c in o.values()]
    found = [(g, c, f.name, kind) for g, c in holders for f in fields(c) for kind in _kinds(c, f.name)]
    sections = [(f.name, get_type_hints(Config)[f.name]) for f in fields(Config) if "." not in f.name]
    return found + [
        (name, cls, f.name, kind)
        for name, cls in sections
        if isinstance(cls, type) and hasattr(cls, "prefix")
        for f in fields(cls)
        for kind in _kinds(cls, f.name)
    ]


def _kinds(cls: type, name: str) -> list[type]:
    hint = get_type_hints(cls)[name]
    return [kind for kind in (int, float) if hint in (kind, kind | None)]


def test_no_number_without_end_and_none_beyond_2_to_the_53_is_taken_by_any_key() -> None:
    tried = 0
    for group, cls, name, kind in _numeric():
        part = cls(name=group) if "name" in {f.name for f in fields(cls)} else cls()
        own = next(f.metadata["range"].at_most for f in fields(cls) if f.name == name and "range" in f.metadata)
        for value in (value for value in WRONG[kind] if kind is float or own is None or abs(value) > own):
            setattr(part, name, value)
            with pytest.raises(ValueError, match=name):
                check_ranges(part, f"{group}.")
            tried += 1
    assert tried > 300


@pytest.mark.parametrize("override", ["model.hidden=[[1]]", "growth.max_units=[[3]]", "trigger.steps=[[1]]"])
def test_a_list_in_a_list_is_refused_where_none_belongs(override: str) -> None:
    with pytest.raises(UserError, match="must be a list without nested lists"):
        compose(["model=mlp", "trigger=at", *SHORT, override])


def test_lists_of_lists_are_taken_where_they_are_declared() -> None:
    from dataclasses import dataclass

    @dataclass
    class Part:
        rows: list[Any] = key(make=lambda: [[1], [2]], at_least=1)

    check_ranges(Part(), "")


@pytest.mark.parametrize("flag", [["--epochs", "5"], ["-x"], ["--cfg", "jobb"], ["seed=1", "--foo"]])
def test_a_flag_that_there_is_not_is_one_sentence(flag: list[str], grow: Callable) -> None:
    done = grow("train", *flag)
    assert done.code == 2
    assert done.err.count("error:") == 1
    assert len(done.err.splitlines()) == 1


def test_the_flag_of_a_sweep_stands_anywhere() -> None:
    assert flags_first(["seed=1,2", "-m", "method=static"]) == ["-m", "seed=1,2", "method=static"]
    assert flags_first(["--cfg", "job", "seed=1"]) == ["--cfg", "job", "seed=1"]


@pytest.mark.parametrize(
    "override", ["clip_norm=${oc.env:PATH}", "batch_size=${seed_}", "label=${oc.env:NO_SUCH_NAME}"]
)
def test_an_interpolation_that_leads_nowhere_is_one_sentence(override: str, grow: Callable, tmp_path: Path) -> None:
    done = grow("train", *SHORT, override, "run_dir=run")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert os.listdir(tmp_path) == []
