"""The page that `scripts/bench.py` writes into docs/results."""

from __future__ import annotations

import json
import math
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
import tuned
from benches import BENCHES, CONTROLS, INTRODUCTIONS, PAGES, folder
from common import ROOT, grow, write_page

from grow_cli.analysis import equivalence
from grow_cli.analysis.comparing import draw_anytime, draw_fronts, markdown
from grow_cli.analysis.comparison import Comparison, compare
from grow_cli.analysis.numbers import short_number
from grow_cli.analysis.runs import Record, read_records
from grow_cli.analysis.verdicts import ALPHA
from grow_cli.commands.train import compose
from grow_cli.config import GROUP_KEYS, Config
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.metrics import read_metrics

Searches = dict[str, tuple[tuned.Search, tuned.Search | None]]
"""Way → what came of its search for a rate, and of that of its final net."""


def events(records: list[Record]) -> str:
    """Markdown: what the growth events did, a row per way; means over all events of all seeds."""
    rows: dict[str, list[dict[str, float]]] = {}
    for record in records:
        if record.control is None:
            metrics = read_metrics(record.folder)
            found = [_event(e, metrics) for e in growth_events(record.folder) if e.units_added]
            rows.setdefault(record.label, []).extend(found)
    lines = [
        "| | events | loss jump | after the warm-up | change of the outputs, % | steps to recover (median) | recovered |",
        "| --- " + "| ---: " * 6 + "|",
    ]
    for label, found in rows.items():
        if not found:
            continue
        frame = pd.DataFrame(found)
        recovered = frame["recover"].notna()
        lines.append(
            f"| {label} | {len(frame)} | {frame['jump'].mean():+.4f} ± {frame['jump'].std():.4f} | "
            f"{frame['settled'].mean():+.4f} ± {frame['settled'].std():.4f} | {100 * frame['change'].mean():.1f} | "
            f"{frame['recover'].fillna(float('inf')).median():.0f} | {recovered.mean():.0%} |"
        )
    return "\n".join(lines)


def _event(event: GrowthEvent, metrics: pd.DataFrame) -> dict[str, float]:
    before = metrics[metrics["step"] == event.step]["val_loss"].iloc[0]
    later = metrics[(metrics["step"] > event.step) & (metrics["val_loss"] <= before)]
    losses = (event.loss_before, event.loss_after, event.loss_settled, event.function_change_relative)
    first, after, settled, change = (math.nan if value is None else value for value in losses)
    return {
        "jump": after - first,
        "settled": settled - first,
        "change": change,
        "recover": float(later["step"].iloc[0] - event.step) if len(later) else float("nan"),
    }


EVENTS_NOTE = (
    "Loss jump: of a fixed batch, just after the event against before; after the warm-up: once the new block was trained alone. "
    "Steps to recover: from the event to the first evaluation at which the validation loss is no higher than at the event, the "
    "warm-up's steps not counted; inf where less than half of the events came to that."
)


COPY_NOTE = (
    "CIFAR-10 is read from a folder of images here (`dataset=image_folder dataset.path=DIR` in place of `dataset=cifar10`): a "
    "copy (JPEG), not the original files."
)


def verdicts(comparisons: list[Comparison]) -> str:
    """Markdown: each way that has controls beside them, in points, with the word of its table and the power that was had."""
    kinds = [*CONTROLS, "static-best", tuned.OWN_RATE]
    lines = [
        "| | seeds | " + " | ".join(kinds) + " | found at 80 % |",
        "| --- | ---: " + "| --- " * (len(kinds) + 1) + "|",
    ]
    for comparison in comparisons:
        tests = [t for t in comparison.tests_made if t.second.records[0].control]
        for way in dict.fromkeys(t.first.label for t in tests):
            own = {t.name_of_second: t for t in tests if t.first.label == way}
            cells = [f"{100 * own[k].found.difference:+.2f} **{own[k].verdict}**" if k in own else "–" for k in kinds]
            level = ALPHA / len(comparison.tests_made)
            found = [equivalence.findable(t.found.deviation, t.found.n, level) for t in own.values()]
            power = f"{100 * min(found):.2f} to {100 * max(found):.2f}"
            seeds = next(iter(own.values())).found.n
            lines.append(f"| {way} | {seeds} | " + " | ".join(cells) + f" | {power} |")
    return "\n".join(lines)


VERDICTS_NOTE = (
    "Test accuracy of the grown nets minus that of the control, in percentage points; the words are those of the tables below, "
    f"each of which has its own level. `{tuned.OWN_RATE}` is `static-flops` at the rate that the static net chose for itself; – "
    "where it chose the same. Found at 80 %: the true difference that so many seeds would show in 80 % of repetitions, for the "
    "control with the smallest spread and for the one with the largest. Undecided does not mean equal."
)


def costs(records: list[Record]) -> str:
    """Markdown: what the runs and their ladder cost, means over seeds; a row per way with a ladder."""
    lines = ["| | a run | its ladder | ladder ÷ run, FLOPs | sizes | chosen |", "| --- " + "| ---: " * 5 + "|"]
    for way in dict.fromkeys(r.of.label for r in records if r.control == "static-best" and r.of):
        best = [r.summary for r in records if r.control == "static-best" and r.of and r.of.label == way]
        own = [r.summary for r in records if r.label == way]
        run, ladder = _mean(own, "training_flops"), _mean(best, "ladder_flops")
        lines.append(
            f"| {way} | {short_number(run)} FLOPs, {_mean(own, 'seconds'):.0f} s | {short_number(ladder)} FLOPs, "
            f"{_mean(best, 'ladder_seconds'):.0f} s | {ladder / run:.1f} | {best[0]['ladder_rungs']} | "
            f"{best[0]['parameters']:,} parameters (grown: {_mean(own, 'parameters'):,.0f}) |"
        )
    return "\n".join(lines)


def _mean(summaries: list[dict[str, Any]], key: str) -> float:
    return sum(float(s[key]) for s in summaries) / len(summaries)


TUNING_NOTE = (
    f"Validation accuracy, %, at the end of one run with seed {tuned.SEED}, which is in no comparison. Each way, and the net it "
    "ends with, from scratch for as many FLOPs, has the same three multiples of the recipe's rate; the best one is then its "
    "rate. FLOPs and seconds are of all three. The other controls have the rate of their run."
)
COSTS_NOTE = (
    "The ladder of `static-best` by successive halving ([size.md](../size.md)), for each seed; not in other tables."
)


def command_lines(page: str, *, tuned_rates: bool) -> list[str]:
    """Paragraphs: the overrides of each way of a page, a row per way, and those that all of them have."""
    ways = [(way, BENCHES[name]) for name in PAGES[page] for way in BENCHES[name].ways]
    typed = [bench.overrides(way) for way, bench in ways]
    common = [o for o in typed[0] if all(o in line for line in typed) and not o.startswith("experiment=")]
    shared = common if len(ways) > 1 else []
    often = Counter(way for way, _ in ways)
    rows = ["| | `grow train` | in the experiment |", "| --- | --- | --- |"]
    for (way, bench), line in zip(ways, typed, strict=True):
        # a rate that the search replaces is no part of a run
        own = [o for o in line if o not in shared and not (tuned_rates and o.startswith("optimizer.lr="))]
        own.sort(key=lambda o: not o.startswith("experiment="))
        label = way if often[way] == 1 else f"{way} ({bench.title})"
        rows.append(f"| {label} | `{' '.join(own)}` | {replaced(own, line)} |")
    every = [f"`{' '.join(shared)}`"] * bool(shared) + ["`threads=1`"] * ("threads=1" not in shared)
    every += ["`optimizer.lr` as chosen under *Tuning*"] * tuned_rates
    note = (
        f"Each run has besides: {', '.join(every)}, and its seed. In the experiment: its own values where a line has others. "
        "Rows *way · control* are made from these runs ([compare.md](../compare.md))."
    )
    return ["# What each row's run is", "\n".join(rows), note]


def replaced(own: list[str], line: list[str]) -> str:
    """Markdown: the experiment's values of these keys where the whole line has others."""
    if not own or not own[0].startswith("experiment="):
        return "–"
    before, after = compose(own[:1]), compose(line)
    keys = [o.partition("=")[0] for o in own[1:]]
    changed = [f"{key}={_value(before, key)}" for key in keys if _value(before, key) != _value(after, key)]
    return f"`{' '.join(changed)}`" if changed else "–"


def _value(config: Config, key: str) -> str:
    value = attrgetter(f"{key}.name" if key in GROUP_KEYS else key)(config)
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def section(name: str, seeds: int | None, command: str) -> tuple[Comparison, list[Record], list[str]]:
    """The paragraphs of a benchmark, and what they are about; its pictures are drawn."""
    bench = BENCHES[name]
    records = [r for r in read_records([folder(name)]) if r.seed in bench.range(seeds)]
    [comparison] = compare(records, to=bench.to, equal_within=bench.within)
    text = markdown([comparison], command, pictures=False).split("\n\n", 2)[2]
    parts = [f"# {bench.title}, {seeds or bench.seeds} seeds", bench.note, *text.strip().split("\n\n")]
    if bench.events:
        parts += ["## At the growth events", events(records), EVENTS_NOTE]
    images = ROOT / "docs" / "images"
    draw_anytime(comparison, images / f"{name}_anytime.png")
    draw_fronts(comparison, images / f"{name}_fronts.png")
    parts += [f"![{what}](../images/{name}_{what}.png)" for what in ("anytime", "fronts")]
    return comparison, records, [part for part in parts if part]


def together(sections: list[list[str]]) -> list[str]:
    """Their paragraphs one after the other; notes that several have come once, at the end."""
    often = Counter(part for parts in sections for part in set(parts) if part[0] not in "#|!*")
    shared = [part for part in often if often[part] > 1]
    kept = [part for parts in sections for part in parts if part not in shared]
    return kept + (["# Of all tables", *sorted(shared)] if shared else [])


def report(page: str, seeds: int | None, command: str, searches: Searches, *, copied: bool = False) -> Path:
    """The page in docs/results and its pictures, and reports beside the runs."""
    found = [section(name, seeds, command) for name in PAGES[page]]
    title, about = INTRODUCTIONS.get(page, ("", ""))
    begun = [f"# {title}" if title else "", f"Made by `{command}`.", about, COPY_NOTE if copied else ""]
    lines = command_lines(page, tuned_rates=bool(searches))
    if title:
        begun += [f"#{lines[0]}", *lines[1:]]
    if searches:
        begun += ["## Verdicts", verdicts([comparison for comparison, _, _ in found]), VERDICTS_NOTE]
        begun += ["## Tuning", tuned.table(searches), TUNING_NOTE, tuned.at_the_edge(searches)]
        begun += ["## Cost of the ladders", costs([r for _, records, _ in found for r in records]), COSTS_NOTE]
    below = together([parts for _, _, parts in found]) + ([] if title else lines)
    if title:
        below = [f"#{part}" if part.startswith("#") else part for part in below]
    output = f"bench_{page}" if title or len(PAGES[page]) == 1 else f"{page}_study"
    written = write_page(output, "\n\n".join(part for part in [*begun, *below] if part))
    for name in PAGES[page]:
        print(grow("report", str(folder(name))))
    return written
