"""What a careful reader must know before believing a comparison."""

from __future__ import annotations

import pandas as pd

from grow_cli.analysis.runs import differing, flatten
from grow_cli.analysis.ways import Test, Way
from grow_cli.records.words import counted
from grow_cli.schema import keys_with, role_of

# what is compared is the way of growing; the recipe is what remains, the net's sizes left out
_GROWING = ("method", "trigger", "growth", "trajectory", "evaluate", "subset")
_FEW = 10


def taken_back(numbers: pd.DataFrame) -> list[str]:
    some = numbers[numbers["undone"] > 0]
    each = "; ".join(f"{row['way']}: {row['undone']:.1f} of {row['events']:.1f}" for _, row in some.iterrows())
    return [f"Of the growth events some were taken back ({each})."] if each else []


def notes_of(ways: list[Way], tests: list[Test]) -> list[str]:
    """What a careful reader must know before believing the tables."""
    notes = []
    seeds = {way.label: [r.seed for r in way.records] for way in ways}
    if len({tuple(s) for s in seeds.values()}) > 1:
        unlike = "; ".join(f"{label}: {', '.join(map(str, s))}" for label, s in seeds.items())
        notes.append(
            f"Not all ways have the same seeds ({unlike}): tests use those that a pair shares, means all that a way has."
        )
    if tests:
        fewest = min(t.found.n for t in tests)
        least = 2.0 ** (1 - fewest)
        notes.append(
            f"Two-sided tests, paired by seed; Holm's correction over the {len(tests)} of this table, for each kind of test. "
            f"The least p-value that the signed-rank test (rank) can give for {counted(fewest, 'pair')} is {least:.2g}, and "
            f"{min(1.0, len(tests) * least):.2g} after Holm. Intervals belong to the t-test and are not corrected for the number "
            "of tests"
            + (
                "; bootstrapped ones (BCa) are too narrow for so few seeds (of five they hold the truth in 81 % of cases)."
                if fewest < _FEW
                else "."
            )
        )
        cut = [key.removeprefix("dataset.") for key in keys_with("split")]
        cuts = {repr([r.config["dataset"].get(key) for key in cut]) for way in ways for r in way.records}
        notes.append(_splits(ways, cut, same=len(cuts) == 1))
    elif len(ways) > 1:
        notes.append("No two ways share two seeds: nothing can be tested. Train each with several, seed=0,1,2,3,4.")
    recipes = {way.label: _recipe(way) for way in ways if way.records[0].control is None}
    # the kind of model first, what else differs of it last
    keys = sorted(
        differing(list(recipes.values())), key=lambda k: (k.startswith("model.") - 2 * (k == "model.name"), k)
    )
    if keys:
        shown = "; ".join(
            f"{key} is "
            + ", ".join(f"{_typed(recipe.get(key, '–'))} for {_quoted(label)}" for label, recipe in recipes.items())
            for key in keys[:4]
        )
        notes.append(f"The recipes differ: {shown}{'; …' if len(keys) > 4 else ''}.")
    devices = sorted({str(r.summary["device"]) for way in ways for r in way.records})
    if len(devices) > 1:
        notes.append(f"Seconds are of different machines ({', '.join(devices)}).")
    notes.append(
        "front: no other way has a better mean with no more parameters (P), with no more training FLOPs (F). Anytime: the best "
        "validation score so far, averaged over costs from 0 to the largest that any of these runs spent, what a run has reached "
        "kept; against parameters a net counts from its size on, so a static one has nothing before. All runs are read as often "
        "as the one with the fewest evaluations. Steps leave out those in which a new block is trained alone."
    )
    return notes


def _splits(ways: list[Way], cut: list[str], *, same: bool) -> str:
    """Which data the runs share; `cut`: the keys that a split follows."""
    if not same:
        return f"The runs do not share one split into training and validation ({', '.join(cut)}): that makes differences, too."
    if all(r.config["dataset"].get("split_seed") == "seed" for way in ways for r in way.records):
        return "Each seed has a validation split of its own (dataset.split_seed=seed), and all the same test split."
    return "All runs share one split into training, validation and test: what is said holds for other seeds, not for other data."


def _recipe(way: Way) -> dict[str, object]:
    flat = flatten(way.records[0].config)
    return {
        key: value
        for key, value in flat.items()
        if key.split(".")[0] not in _GROWING and key != "dataset.name" and role_of(key) != "size"
    }


def _typed(value: object) -> object:
    """As it is typed."""
    return "null" if value is None else value


def _quoted(label: str) -> str:
    return f"'{label}'" if "," in label else label
