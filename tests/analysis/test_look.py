"""The pages' look: contrast on both papers, colours that can be told apart, markers and dashes, verdicts in words."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from grow_cli.analysis.in_words import pair_in_words
from grow_cli.analysis.numbers import score_text, seconds_text, short_number
from grow_cli.analysis.report.charts import Chart, layout
from grow_cli.analysis.report.confusion import SHADE
from grow_cli.analysis.report.keys import SYMBOLS, keys_of, legend
from grow_cli.analysis.report.look import DARK, LIGHT, SERIES, contrast, on, style
from grow_cli.analysis.ways import Within
from grow_cli.tasks import TASKS

PAPERS = {"light": LIGHT, "dark": DARK}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the guideline's own example of too little
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("paper", PAPERS)
def test_all_text_has_a_contrast_of_4_5_or_more(paper: str) -> None:
    colours = PAPERS[paper]
    texts = set(re.findall(r"[^-]color: var\(--(\w+)\)", style())) - {"paper"}
    assert {"ink", "soft", "right", "wrong", "link"} <= texts
    for text, behind in itertools.product(texts, ("paper", "panel")):
        assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    assert contrast(colours["paper"], colours["ink"]) >= 4.5  # the pressed button


@pytest.mark.parametrize("paper", PAPERS)
def test_a_cell_of_the_confusion_matrix_is_never_too_dark_for_its_number(paper: str) -> None:
    colours = PAPERS[paper]
    for tone in ("right", "wrong"):
        parts = [[int(colours[name][i : i + 2], 16) for i in (1, 3, 5)] for name in (tone, "paper")]
        mixed = [round((SHADE * a + (100 - SHADE) * b) / 100) for a, b in zip(*parts, strict=True)]
        assert contrast(colours["ink"], "#{:02x}{:02x}{:02x}".format(*mixed)) >= 4.5


def test_every_colour_of_a_style_is_one_of_both_papers() -> None:
    assert set(LIGHT) == set(DARK)
    rules = style().partition("* {")[2]
    assert set(re.findall(r"var\(--(\w+)\)", rules)) <= set(LIGHT)
    assert not re.findall(r"#[0-9a-f]{3,8}\b", rules)


def test_twelve_curves_stand_out_from_either_paper_and_from_each_other() -> None:
    assert len(set(SERIES)) == len(SYMBOLS) == 12
    for colour, paper in itertools.product(SERIES, PAPERS.values()):
        assert contrast(colour, paper["paper"]) >= 3, colour
    for first, second in itertools.combinations(map(oklab, SERIES), 2):
        assert np.linalg.norm(first - second) > 0.11


def test_numbers_inside_a_bar_have_a_contrast_of_4_5_or_more() -> None:
    for colour in SERIES:
        assert contrast(on(colour), colour) >= 4.5, colour


def oklab(colour: str) -> np.ndarray:
    """(3,) of `#rrggbb` (Ottosson 2020)."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = [[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]
    lab = [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    return np.array(lab) @ np.cbrt(np.array(cones) @ linear)


def way(label: str, control: str | None = None, of: str = "") -> Any:
    record = SimpleNamespace(control=control, task=TASKS["classification"])
    return SimpleNamespace(label=label, control=control, source=of or label, records=[record])


def test_a_control_has_its_methods_colour_and_a_dash_and_an_open_marker_of_its_kind() -> None:
    kinds = ["static-steps", "static-flops"]
    ways = [w for name in ("tiny", "fold") for w in (way(name), *(way(f"{name} · {k}", k, name) for k in kinds))]
    keys = {key.name: key for key in keys_of(ways)}
    for name in ("tiny", "fold"):
        assert keys[name].dash == "solid"
        assert {keys[f"{name} · {kind}"].colour for kind in kinds} == {keys[name].colour}
    assert keys["tiny"].colour != keys["fold"].colour
    for kind in kinds:
        (look,) = {(keys[f"{name} · {kind}"].dash, keys[f"{name} · {kind}"].symbol) for name in ("tiny", "fold")}
        assert look[0] != "solid"
        assert look[1].endswith("-open")
    looks = [(key.colour, key.dash, key.symbol) for key in keys.values()]
    assert len(set(looks)) == len(looks)


def test_more_ways_than_colours_still_look_different() -> None:
    keys = keys_of([way(f"lr={i}") for i in range(40)])
    assert len({(key.colour, key.symbol) for key in keys}) == 40


def test_a_legend_names_every_way_as_text_and_points_at_its_curve() -> None:
    chart = Chart("curves-0", "", [], layout(100), keys=keys_of([way("tiny"), way("<b>evil")]))
    html = legend(chart)
    assert re.findall(r"<span>(.*?)</span>", html) == ["tiny", "&lt;b&gt;evil"]
    assert re.findall(r'data-curve="(\d)"', html) == ["0", "1"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (150, "150"), (1202, "1,202"), (9999, "9,999"), (9999.7, "10 k"), (12345, "12.3 k")),
        *((999_600, "1 M"), (1_234_567, "1.23 M"), (12.3e9, "12.3 G"), (8.3e11, "830 G"), (2e24, "2,000,000 E")),
    ],
)
def test_a_large_number_has_three_digits_and_its_letter(number: float, text: str) -> None:
    assert short_number(number) == text


def test_seconds_and_scores_have_their_unit() -> None:
    assert [seconds_text(s) for s in (0, 0.0123, 5.096, 39.71, 1200)] == [
        "0.0 s",
        "0.012 s",
        "5.1 s",
        "39.7 s",
        "1,200 s",
    ]
    assert score_text(TASKS["classification"], 0.97125) == "97.12 %"
    assert score_text(TASKS["regression"], 0.97125) == "0.9712"
    assert score_text(TASKS["regression"], float("nan")) == score_text(TASKS["regression"], None) == "–"


def pair(difference: float, deviation: float, n: int, verdict: str) -> Any:
    found = SimpleNamespace(difference=difference, deviation=deviation, n=n)
    first = way("tiny")
    return SimpleNamespace(first=first, name_of_second="static-flops", found=found, verdict=verdict)


POINTS = Within.of(2, TASKS["classification"])


def test_an_undecided_pair_says_how_many_seeds_more_would_settle_it() -> None:
    from grow_cli.analysis.equivalence import POWER, t_power

    sentence = pair_in_words(pair(-0.045, 0.02, 3, "undecided"), POINTS, 0.05)
    head = "static-flops is 4.5 points ahead of tiny, undecided with 3 seeds: about "
    assert sentence.startswith(head)
    assert sentence.endswith(" more would settle a difference of 2 points.")
    n = 3 + int(sentence.removeprefix(head).split()[0])
    assert t_power(0.02, 0.02, n) >= POWER > t_power(0.02, 0.02, n - 1)


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (pair(0.021, 0.01, 5, "better"), "tiny is 2.1 points ahead of static-flops, decided with 5 seeds."),
        (pair(-0.021, 0.01, 5, "worse"), "static-flops is 2.1 points ahead of tiny, decided with 5 seeds."),
        (
            pair(0.002, 0.001, 9, "better, but within 2 points"),
            "tiny is 0.2 points ahead of static-flops, decided with 9 seeds, and the difference is below 2 points.",
        ),
        (
            pair(0.0001, 0.01, 9, "equal within 2 points"),
            "tiny and static-flops are equal within 2 points, decided with 9 seeds.",
        ),
        (
            pair(0.001, 0.001, 9, "undecided"),
            "tiny is 0.1 points ahead of static-flops, undecided with 9 seeds, which would have found a difference of 2 points "
            "in four cases of five.",
        ),
        (
            pair(0.0, 0.0, 2, "undecided"),
            "tiny and static-flops have the same mean, undecided with 2 seeds: all differences are equal, so a t-test "
            "has no spread to compare them with.",
        ),
    ],
)
def test_a_pair_is_told_as_its_verdict_says(test: Any, sentence: str) -> None:
    assert pair_in_words(test, POINTS, 0.05) == sentence
