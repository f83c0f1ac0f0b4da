"""Caveats that a careful reader needs before believing a comparison."""

from __future__ import annotations

import pandas as pd

from grow_cli.analysis import equivalence
from grow_cli.analysis.numbers import short_number
from grow_cli.analysis.runs import Record, differing, flatten
from grow_cli.analysis.signed_rank import least_pvalue
from grow_cli.analysis.verdicts import ALPHA
from grow_cli.analysis.ways import Test, Way, Within
from grow_cli.records.reading import number
from grow_cli.records.words import counted
from grow_cli.schema import keys_with, role_of

# what is compared is the way of growing; the recipe is what remains, the net's sizes left out
_GROWING = ("method", "trigger", "growth", "trajectory", "evaluate", "subset")
_FEW = 10
# Pairs that the power line tells one by one.
_SHOWN = 3


def taken_back(numbers: pd.DataFrame) -> list[str]:
    some = numbers[numbers["undone"] > 0]
    each = "; ".join(f"{row['way']}: {row['undone']:.1f} of {row['events']:.1f}" for _, row in some.iterrows())
    return [f"Some growth events were taken back ({each})."] if each else []


def cautions_of(ways: list[Way], tests: list[Test]) -> list[str]:
    """Cautions about the tests themselves, shown above their table."""
    cautions = tuned_note(ways, alike=False)
    if tests and least_pvalue(fewest := min(t.found.n for t in tests)) > ALPHA:
        cautions.append(
            f"Too few seeds for the signed-rank test: with {counted(fewest, 'pair')} its p-value cannot be below "
            f"{least_pvalue(fewest):.2g}; with 6 or more it can be below {ALPHA:g}."
        )
    data = {way.label: sorted({_fingerprint(r.summary) for r in way.records} - {""}) for way in ways}
    if len({mark for marks in data.values() for mark in marks}) > 1:
        told = "; ".join(f"{_quoted(label)}: {', '.join(marks)}" for label, marks in data.items() if marks)
        cautions.append(
            f"Not all runs were trained and tested on the same data (fingerprints {told}): differences may come from the "
            "data."
        )
    begun = [way.label for way in ways if any(r.config.get("init") for r in way.records)]
    if begun:
        told = ", ".join(map(_quoted, begun))
        cautions.append(
            f"Earlier training is not counted: {told} started from the net of another run (init), whose steps, seconds and "
            "FLOPs are in no table."
        )
    machines = {way.label: tuple(sorted({str(r.summary["device"]) for r in way.records})) for way in ways}
    if len(set(machines.values())) > 1:
        told = "; ".join(f"{_quoted(label)}: {', '.join(names)}" for label, names in machines.items())
        cautions.append(
            f"The sides ran on different devices or numbers of threads ({told}): the last digits of a run depend on that, "
            "and so do differences."
        )
    stuck = [t for t in tests if t.found.deviation == 0]
    if stuck:
        cautions.append(
            f"{_pair(stuck[0])}{' and others' if len(stuck) > 1 else ''}: all differences are equal, so a t-test has no "
            "spread to compare them with, and there is no verdict."
        )
    return cautions


def tuned_note(ways: list[Way], *, alike: bool) -> list[str]:
    """The cost of tuning, and whether the ways were tuned alike (not their controls, which have their run's recipe)."""
    own = [way for way in ways if way.control is None]
    found = {way.label: {_tuned(record) for record in way.records} for way in own}
    kinds = {mark and (mark[0], mark[1], mark[3]) for marks in found.values() for mark in marks}
    if kinds == {None} or (len(kinds) == 1) != alike:
        return []
    told = "; ".join(
        f"{_quoted(label)}: "
        + ", ".join(
            f"{counted(mark[0], 'trial')} of {counted(mark[1], 'run')}, {short_number(mark[2])} FLOPs"
            if mark
            else "not tuned"
            for mark in sorted(marks, key=repr)
        )
        for label, marks in found.items()
    )
    if alike:
        return [f"All ways were tuned alike, which the costs above leave out ({told})."]
    return [
        f"not tuned alike ({told}): differences include what tuning gained; `grow tune method=A,B` gives each the same "
        "search."
    ]


def _tuned(record: Record) -> tuple[int, int, float, str] | None:
    """Trials, seeds, FLOPs, and space with pruner of the search that a run's values came from; None where it says of none."""
    said = record.config.get("tuned")
    if not isinstance(said, dict):
        return None
    trials, seeds, flops = said.get("trials"), said.get("seeds"), said.get("flops")
    if not (isinstance(trials, int) and isinstance(seeds, int) and isinstance(flops, int | float) and number(flops)):
        return None
    return trials, seeds, float(flops), f"{said.get('space')} {said.get('pruner', 'none')}"


def _fingerprint(summary: dict[str, object]) -> str:
    """Eight digits of training and test data; empty in older folders."""
    data = summary.get("data")
    if not isinstance(data, dict):
        return ""
    corpus = data.get("corpus")  # a text's files
    marks = [data.get("hash"), data.get("test_hash"), corpus.get("sha256") if isinstance(corpus, dict) else None]
    return "/".join(str(mark)[:8] for mark in marks if mark)


def verdict_note(tests: list[Test], within: Within | None) -> list[str]:
    """The rule by which the words are given."""
    if not tests:
        return []
    shared = (
        "; undecided does not mean equal (--equal-within δ tests that)"
        if within is None
        else '. Of a pair at most one of "differs" and "equal within δ" can be wrong: both share one correction (Shaffer)'
    )
    return [
        f"Verdicts are about the first way, by the paired t-test{'' if within is None else ' and TOST'} at p ≤ {ALPHA:g} "
        "after "
        f"correction over this table: at most {ALPHA:.0%} of tables contain a wrong one{shared}. They are valid if the "
        "number of seeds was fixed in advance; use --until-decided if you look in between."
    ]


def one_split(ways: list[Way]) -> bool:
    """Whether all runs share one cut into training and validation."""
    return len(_cuts(ways)) == 1


def _cuts(ways: list[Way], *, of_each_seed: bool = True) -> set[str]:
    """How the runs' data are cut; `of_each_seed`: a cut that is drawn by the run's seed is another for each."""

    def cut(record: Record) -> str:
        values = [record.config["dataset"].get(key) for key in _split_keys()]
        return repr([record.seed if value == "seed" and of_each_seed else value for value in values])

    return {cut(record) for way in ways for record in way.records}


def _split_keys() -> list[str]:
    return [key.removeprefix("dataset.") for key in keys_with("split")]


def power_note(tests: list[Test], within: Within | None) -> list[str]:
    """How many seeds δ needs, or what the seeds find: of the pairs that spread most and least."""
    spread = sorted((t for t in tests if t.found.deviation > 0), key=lambda t: -t.found.deviation)
    if not spread:
        return []
    level = ALPHA / len(tests)
    at = f"{equivalence.POWER:.0%} power, level {ALPHA:g}" + (f" / {len(tests)} tests" if len(tests) > 1 else "")
    shown = spread if len(spread) <= _SHOWN else [spread[0], spread[-1]]
    which = (
        "" if len(spread) <= _SHOWN else f" (of {len(spread)} pairs, those with the largest and the smallest spread)"
    )
    if within is None:
        unit = 100 if tests[0].first.records[0].task.percent else 1
        found = "; ".join(f"{_findable(t, unit, level)} with {counted(t.found.n, 'seed')} ({_pair(t)})" for t in shown)
        return [
            f"Power{which}: the difference that would be found is {found}; {at}. --equal-within δ shows how many seeds δ "
            "needs, and which ways are equal within it."
        ]
    needs = "; ".join(_needs(t, within, level) for t in shown)
    return [f"Power{which}: δ = {within.words} needs {needs}; {at}."]


def _findable(test: Test, unit: int, level: float) -> str:
    """`7.4 points`; accuracies are not further apart than 100."""
    found = unit * equivalence.findable(test.found.deviation, test.found.n, level)
    if unit == 100:
        return "no difference of accuracies" if found > 100 else f"{found:.2g} points"
    return f"{found:.2g}"


def _needs(test: Test, within: Within, level: float) -> str:
    found = test.found
    low, high = equivalence.deviation_interval(found.deviation, found.n)
    fewest, most = (equivalence.seeds_to_find(within.delta, d, level) for d in (low, high))
    return (
        f"{_seeds(equivalence.seeds_to_find(within.delta, found.deviation, level))} to be found, "
        f"{_seeds(equivalence.seeds_to_equate(within.delta, found.deviation, level))} to show equality ({_pair(test)}; the "
        f"deviation is measured on {counted(found.n, 'pair')}: {_number(fewest)} to {_seeds(most)})"
    )


def _number(n: int | None) -> str:
    return f"more than {equivalence.MOST_SEEDS:,}" if n is None else f"{n:,}"


def _seeds(n: int | None) -> str:
    return f"{_number(n)} seeds"


def _pair(test: Test) -> str:
    return f"{test.first.label} − {test.name_of_second}"


def notes_of(ways: list[Way], tests: list[Test]) -> list[str]:
    """What a careful reader must know before believing the tables."""
    notes = tuned_note(ways, alike=True)
    seeds = {way.label: [r.seed for r in way.records] for way in ways}
    if len({tuple(s) for s in seeds.values()}) > 1:
        unlike = "; ".join(f"{label}: {', '.join(map(str, s))}" for label, s in seeds.items())
        notes.append(
            f"Not all ways have the same seeds ({unlike}): tests use the seeds that a pair shares, means all seeds of a way."
        )
    if tests:
        fewest = min(t.found.n for t in tests)
        least = least_pvalue(fewest)
        notes.append(
            f"Two-sided tests, paired by seed; Holm's correction over the {len(tests)} of this table, for each kind of "
            f"test. The smallest p-value that the signed-rank test (rank) can give for {counted(fewest, 'pair')} is "
            f"{least:.2g}, and "
            f"{min(1.0, len(tests) * least):.2g} after Holm. Intervals belong to the t-test and are not corrected for the number "
            "of tests"
            + (
                "; bootstrapped ones (BCa) are too narrow for so few seeds (with five they contain the truth in 81 % of "
                "cases)."
                if fewest < _FEW
                else "."
            )
        )
        notes.append(_splits(ways))
    elif len(ways) > 1:
        notes.append("No two ways share two seeds: nothing can be tested. Train each with several, seed=0,1,2,3,4.")
    recipes = {way.label: _recipe(way) for way in ways if way.control is None}
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
        notes.append(f"Seconds come from different machines ({', '.join(devices)}).")
    notes.append(
        "front: no other way has a better mean with at most as many parameters (P), or training FLOPs (F). Anytime: the best "
        "validation score so far, averaged over costs from 0 to the largest that any of these runs spent; a run keeps its "
        "score when it ends. On the parameter axis a net contributes only from its own size upwards. All runs are read as "
        "often as the one with the fewest evaluations. Steps exclude those that train a new block alone."
    )
    return notes


def _splits(ways: list[Way]) -> str:
    """Which data the runs share."""
    if len(_cuts(ways, of_each_seed=False)) > 1:
        keys = ", ".join(_split_keys())
        return (
            f"The runs do not share one split into training and validation ({keys}), which causes differences as well."
        )
    if all(r.config["dataset"].get("split_seed") == "seed" for way in ways for r in way.records):
        return "Each seed has its own validation split (dataset.split_seed=seed); all share the test split."
    return (
        "All runs share one split into training, validation and test: results hold for other seeds, not for other data."
    )


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
