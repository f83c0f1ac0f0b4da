"""A space is read, refused in a sentence, and turned into what is typed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from grow_cli import registry
from grow_cli.errors import UserError
from grow_cli.keys import check_ranges
from grow_cli.tuning.space import Choice, Span, override, overrides_of, read_space, to_json


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_space_has_spans_and_choices_and_numbers_as_hydra_reads_them(tmp_path: Path) -> None:
    text = "optimizer.lr: {low: 1e-4, high: 3e-2, log: true}\nbatch_size: [32, 128]\nmodel.hidden: [[4, 4], [8]]\n"
    space = read_space(written(tmp_path, text))
    assert space == {
        "optimizer.lr": Span(1e-4, 3e-2, log=True),
        "batch_size": Choice((32, 128)),
        "model.hidden": Choice(([4, 4], [8])),
    }
    assert to_json(space)["optimizer.lr"] == {"low": 1e-4, "high": 3e-2, "log": True}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no key"),
        ("[1, 2]", "names no key"),
        ("a: [1", "no YAML"),
        ("optimizer.lr: 3", "neither a span nor choices"),
        ("optimizer.lr: {low: 1}", "neither a span nor choices"),
        ("optimizer.lr: {low: 1, high: 2, step: 3}", "neither a span nor choices"),
        ("optimizer.lr: {low: a, high: 2}", "must be finite numbers"),
        ("optimizer.lr: {low: .nan, high: 2}", "must be finite numbers"),
        ("optimizer.lr: {low: 1, high: 2, log: 3}", "log true or false"),
        ("optimizer.lr: {low: 2, high: 1}", "low (2) must be below high (1)"),
        ("optimizer.lr: {low: 0, high: 1, log: true}", "must be above 0 on a logarithmic scale"),
        ("optimizer.lr: [1]", "leaves nothing to choose"),
        ("optimizer.lr: [1, 1]", "leaves nothing to choose"),
        ("seed: [1, 2]", "--seeds"),
        ("method: [tiny, senn]", "method=A,B"),
        ("dataset: [moons, digits]", "dataset=NAME"),
        ("stop.epochs: [1, 2]", "the same data and budget"),
        ("subset: [100, 200]", "the same data and budget"),
        ("dataset.validation: [0.1, 0.2]", "what it is judged by"),
        ("threads: [1, 2]", "does not change how a net is trained"),
    ],
)
def test_what_is_no_space_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+$") as error:
        read_space(written(tmp_path, text))
    assert says in str(error.value)


def test_a_space_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .* give a YAML file, or default"):
        read_space(tmp_path / "none.yaml")


@settings(max_examples=40)
@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e4), st.floats(0, 1))
def test_a_rounded_number_is_still_in_its_span(low: float, factor: float, at: float) -> None:
    span = Span(low, low * factor, log=True)
    raw = low + at * (low * factor - low)
    assert span.low <= span.value(raw) <= span.high
    assert abs(span.value(raw) - raw) <= 0.005 * raw
    assert span.holds(span.value(raw))


@settings(max_examples=40)
@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["relu", "a b", "it's", "one_cycle", "a,b", "back\\slash\\'", "end\\"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=3),
    )
)
def test_a_value_is_typed_so_that_hydra_reads_the_same(value: Any) -> None:
    assert OverridesParser.create().parse_override(override("optimizer.lr", value)).value() == value


def test_a_group_is_typed_before_keys_that_it_may_bring() -> None:
    assert overrides_of({"optimizer.momentum": 0.9, "optimizer": "sgd"}) == ["optimizer=sgd", "optimizer.momentum=0.9"]


def test_what_options_declare_for_a_search_lies_in_their_own_ranges() -> None:
    found = 0
    for options in registry.groups().values():
        for cls in options.values():
            for f in fields(cls):
                for edge in f.metadata.get("tune") or ():
                    made = cls()
                    setattr(made, f.name, edge)
                    check_ranges(made, "")
                    found += 1
    assert found >= 16, "lr and weight_decay of every optimizer"
