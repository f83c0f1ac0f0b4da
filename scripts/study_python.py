"""Which blocks to add to a language model, and when: operators × moments, four budgets, a rule for the moment.

    python scripts/study_python.py --jobs 2
    python scripts/study_python.py --finished

A byte-level GPT of two blocks on Python's sources becomes one of six. First all operators at all moments at one budget; then
the three best operators, by validation, at four budgets, the best of them at every moment. A rule for the moment is fitted on
the three smaller budgets and judged on the largest. Each finished run is a row of docs/results/data/python.csv and is not
trained again; the second command trains nothing and writes docs/results/python.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import ROOT, write_page
from matplotlib.figure import Figure
from operators import (
    ABOUT,
    BATCH,
    BUDGETS,
    DELTA,
    FINAL,
    GRID,
    LEAST,
    MOMENTS,
    OPERATORS,
    RATES,
    STATIC,
    STEADY,
    STEP,
    TABLE,
    TUNED_AT,
    Cell,
    Found,
    Values,
    train_all,
    tuning,
)
from scipy import stats
from studies import FIRST_SEED, TUNING_SEED
from study import LEVEL, PLANNED, judged, loss_cells, planned, verdict_row
from training_table import arguments

GOAL = 0.01
"""The part by which the rule may be wrong about a loss."""


def at(way: str, moment: float) -> str:
    """How a way that grows is called."""
    return f"{way} at {moment:.0%}"


# --- the rule for the moment


@dataclass(frozen=True)
class Judged:
    """The rule, fitted on all budgets but the last, beside what was found there; a column for each seed."""

    moments: tuple[float, Values]
    """The best moment that it gives: of the mean over seeds, and (seeds,) of each."""
    found: tuple[float, Values]
    """The same of the parabola through what was found."""
    told: Values
    """(moments, seeds): ln L that it gives."""
    was: Values
    """(moments, seeds): ln L that was found."""

    @property
    def errors(self) -> Values:
        """(moments, seeds): by which part the losses that it gives are too high."""
        return self.told - self.was


def terms(budget: float, moments: Values) -> Values:
    """(m, 6): momentⁱ · log₂(budget)ʲ, i < 3, j < 2."""
    x = math.log2(budget / LEAST)
    return np.stack([moments**i * x**j for i in range(3) for j in range(2)], -1)


def judge(logs: Values) -> Judged:
    """ln L is a parabola in the moment whose coefficients are linear in log₂(budget), by least squares.

    :param logs: (budgets, moments, seeds): ln L; as the fit is linear in these, its mean over seeds is the fit of their mean
    """
    moments, seeds = np.array(MOMENTS), logs.shape[-1]
    known = np.concatenate([terms(budget, moments) for budget in BUDGETS[:-1]])
    rule = np.linalg.lstsq(known, logs[:-1].reshape(-1, seeds), rcond=None)[0]
    told, was = terms(BUDGETS[-1], moments) @ rule, logs[-1]

    def lowest(curves: Values) -> tuple[float, Values]:
        fine = np.linspace(moments[0], moments[-1], 701)
        powers = np.vander(fine, 3) @ np.polyfit(moments, curves, 2)
        return float(fine[powers.mean(1).argmin()]), fine[powers.argmin(0)]

    return Judged(lowest(told), lowest(was), told, was)


def g_stack(parameters: float, flops: float) -> float:
    """Tokens after which to grow, as "Stacking your transformers" has it (2405.15319):
    log10 d = 0.88 log10 N + 163.27 / log10 C − 5.74."""
    return float(10 ** (0.88 * math.log10(parameters) + 163.27 / math.log10(flops) - 5.74))


def _when(best: tuple[float, Values]) -> str:
    """The best moment, and how many seeds have it at the end of what was tried."""
    mean, each = best
    last = int((each >= MOMENTS[-1]).sum())
    found = f"no earlier than {mean:.0%}" if mean >= MOMENTS[-1] else f"{mean:.0%}"
    return f"{found} (seeds: {each.min():.0%} to {each.max():.0%}, {last} of {len(each)} at the latest that was tried)"


def _percent(errors: Values, level: float) -> tuple[str, float, float]:
    """A mean over seeds with its t-interval, in percent, and the interval's ends."""
    low, high = stats.ttest_1samp(errors, 0).confidence_interval(1 - level)
    return f"{errors.mean():+.2%} ({low:+.2%} to {high:+.2%})", float(low), float(high)


def rule(found: Found) -> list[str]:
    """What the page says of it."""
    way, last = found.kept[0], BUDGETS[-1]
    logs = np.log([[found.of((b, way, m), "val") for m in MOMENTS] for b in BUDGETS])
    answer = judge(logs)
    each = [_percent(errors, LEVEL / len(MOMENTS)) for errors in answer.errors]
    inside = all(low > -GOAL and high < GOAL for _, low, high in each)
    outside = any(low > GOAL or high < -GOAL for _, low, high in each)
    shown = "confirmed" if inside else "refuted" if outside else "undecided"
    level = answer.errors.mean(0)
    shape = float(np.abs((answer.errors - level).mean(1)).max())
    tokens = g_stack(float(found.column((last, way, MOMENTS[0]), "parameters").mean()), last)
    seen = last / STEP * BATCH
    late, never = (last, way, MOMENTS[-1]), (last, "static-2", 0.0)
    asked = {f"{at(way, late[2])} − static-2": found.of(late, "test") - found.of(never, "test")}
    grows = "one never grows" if tokens > seen else "one grows within the training"
    return [
        f"## A rule for the moment, fitted on three budgets and judged on {last:.3g} FLOPs",
        "",
        "ln L is a parabola in the moment whose coefficients are linear in the logarithm of the budget, fitted to the validation "
        f"losses of *{way}* at {', '.join(f'{b:.3g}' for b in BUDGETS[:-1])} FLOPs: six numbers from "
        f"{(len(BUDGETS) - 1) * len(MOMENTS)}, on each seed (rates: {', '.join(found.rate(b, way) for b in BUDGETS)}). Goal: no "
        f"loss is wrong by more than {GOAL:.0%}.",
        "",
        "| | the rule says | was found |",
        "| --- | ---: | ---: |",
        f"| best moment | {_when(answer.moments)} | {_when(answer.found)} |",
        *(
            f"| loss at {moment:.0%}, nats | {told:.4f}, {error} | {was:.4f} |"
            for moment, told, was, (error, *_) in zip(
                MOMENTS, np.exp(answer.told.mean(1)), np.exp(answer.was.mean(1)), each, strict=True
            )
        ),
        "",
        f"The goal is **{shown}**. In brackets the intervals of the errors, t over seeds, each at a fifth of {LEVEL:g}; they say "
        "nothing of the rates, which one seed decided, or of another form of the rule. Of the error "
        f"{_percent(level, LEVEL)[0]} is the level, the mean over moments; what is left of it is at most {shape:.2%}.",
        "",
        "G_stack's rule, extrapolated far below the budgets that it was made for and with a byte for a token, gives "
        f"{tokens:.1g} tokens for a net of this size at this budget, which pays for {seen:.2g} bytes of two blocks: by it "
        f"{grows}. What never grows is the net of two blocks, which is not the net of six that was asked for:",
        "",
        *verdicts(asked),
        "",
    ]


# --- the page


def cells(found: Found) -> list[str]:
    """Test losses of the grid."""
    lines = [
        "| operator | rate | " + " | ".join(f"{moment:.0%}" for moment in MOMENTS) + " |",
        "| --- | ---: " + "| ---: " * len(MOMENTS) + "|",
    ]
    for way in OPERATORS:
        shown = []
        for moment in MOMENTS:
            test = found.of((GRID, way, moment), "test")
            mark = "**" if moment == found.moment[way] else ""
            shown.append(f"{mark}{test.mean():.4f}{mark} ± {test.std(ddof=1):.4f}")
        lines.append(f"| {way} | {found.rate(GRID, way)} | " + " | ".join(shown) + " |")
    for way in STATIC:
        test = found.of((GRID, way, 0.0), "test")
        lines.append(
            f"| {way} | {found.rate(GRID, way)} | {test.mean():.4f} ± {test.std(ddof=1):.4f}" + " |" * len(MOMENTS)
        )
    return lines


def questions(found: Found) -> dict[str, Values]:
    """The differences of test losses that are judged at the budget of the grid, fixed before the runs."""
    over = {way: np.mean([found.of((GRID, way, at), "test") for at in MOMENTS], 0) for way in OPERATORS}
    best, chosen = found.kept[0], found.static_best(GRID)
    asked = {f"{way} − stack, mean of the moments": over[way] - over["stack"] for way in OPERATORS if way != "stack"}
    for moment in MOMENTS:
        if moment != TUNED_AT:
            asked[f"{at(best, moment)} − at {TUNED_AT:.0%}"] = found.of((GRID, best, moment), "test") - found.of(
                (GRID, best, TUNED_AT), "test"
            )
    for way, moment in found.moment.items():
        test = found.of((GRID, way, moment), "test")
        asked[f"{at(way, moment)} − {FINAL}"] = test - found.of((GRID, FINAL, 0.0), "test")
        if chosen[1] != FINAL:  # otherwise that was it
            asked[f"{at(way, moment)} − static-best ({chosen[1]})"] = test - found.of(chosen, "test")
    return asked


def verdicts(asked: Mapping[str, Values]) -> list[str]:
    """A row for each."""
    answers = judged(asked, DELTA)
    return [
        f"| first − second | verdict, δ = {DELTA:g} nats | Δ | 95 %, uncorrected | p of a difference | p of none beyond δ |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(
            verdict_row(name, d, answers.get(name), d.mean() < 0, f"{DELTA:g} nats", "+.4f")
            for name, d in asked.items()
        ),
    ]


def budgets(found: Found) -> list[str]:
    """The kept operators beside the final net and the best static size, at each budget."""
    ways = found.everywhere
    lines = [
        "| | " + " | ".join(f"{budget:.3g}" for budget in BUDGETS) + " |",
        "| --- " + "| --- " * len(BUDGETS) + "|",
    ]
    others_of: dict[str, Callable[[float], Cell]] = {
        f"− {FINAL} (`static-flops`)": lambda budget: (budget, FINAL, 0.0),
        "− `static-best`": found.static_best,
    }
    for title, other in others_of.items():
        asked = {
            (way, moment, budget): found.of((budget, way, moment), "test") - found.of(other(budget), "test")
            for way, moment in ways
            for budget in BUDGETS
        }
        told = loss_cells(asked, DELTA)
        for way, moment in ways:
            shown = [told.get((way, moment, budget), "the same net") for budget in BUDGETS]
            lines.append(f"| {at(way, moment)} {title} | " + " | ".join(shown) + " |")
    for way in STATIC:
        means = [found.of((budget, way, 0.0), "test").mean() for budget in BUDGETS]
        chosen = [" (best)" if found.static_best(budget)[1] == way else "" for budget in BUDGETS]
        lines.append(
            f"| {way}, test loss | " + " | ".join(f"{m:.4f}{c}" for m, c in zip(means, chosen, strict=True)) + " |"
        )
    return lines


def searched(found: Found) -> list[str]:
    """Validation losses on the tuning seed."""
    lines = ["| budget | way | " + " | ".join(RATES) + " |", "| --- | --- " + "| ---: " * len(RATES) + "|"]
    for budget in BUDGETS if found.finished else (GRID,):
        for way in (*(OPERATORS if budget == GRID else found.kept), *STATIC):
            tried = [float(found.rows[run]["val_loss"]) for run in tuning(budget, [way])]
            lines.append(f"| {budget:.3g} | {way} | " + " | ".join(f"{loss:.4f}" for loss in tried) + " |")
    return lines


def draw(found: Found, output: Path) -> None:
    """Left: operators over moments at one budget; right: the best one over moments at every budget."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    at_all = [100 * moment for moment in MOMENTS]
    for way in OPERATORS:
        means = [found.of((GRID, way, m), "test").mean() for m in MOMENTS]
        left.plot(at_all, means, marker="o", ms=4, ls="--" if way == "alether" else "-", label=way)
    for way, style in zip(STATIC, (":", "-.", "--"), strict=True):
        left.axhline(found.of((GRID, way, 0.0), "test").mean(), color="0.4", lw=1.2, ls=style, label=way)
    left.set_title(f"Six ways from 2 to 6 blocks, {GRID:.3g} FLOPs", fontsize=10)
    left.set_ylabel("test loss, nats per byte (lower is better)")
    left.set_ylim(top=found.of((GRID, FINAL, 0.0), "test").mean() + 0.16)  # room for the legend
    left.legend(frameon=False, fontsize=8, ncols=2)
    way = found.kept[0]
    for number, budget in enumerate(BUDGETS):
        best = found.of(found.static_best(budget), "test")
        cells = [(budget, way, m) for m in MOMENTS] + [(budget, "static-2", 0.0)]
        means = [(found.of(cell, "test") - best).mean() for cell in cells]
        color = (0.1, 0.35, 0.75, 0.25 + 0.25 * number)
        right.plot(at_all, means[:-1], marker="o", ms=4, color=color, label=f"{budget / LEAST:g}×")
        right.plot([at_all[-1], 100], means[-2:], marker="s", ms=4, ls=":", color=color)
    right.axhline(0, color="0.4", lw=1.2, ls="--", label="best static size")
    right.set_title(f"{way}: what it loses against the best static size", fontsize=10)
    right.set_ylabel("nats per byte")
    right.legend(frameon=False, fontsize=8, title=f"budget, 1× = {LEAST:.0e}", title_fontsize=8)
    right.set_xticks([*at_all, 100], [*(f"{at:g}" for at in at_all), "never"])
    left.set_xticks(at_all, [f"{at:g}" for at in at_all])
    for axes in (left, right):
        axes.set_xlabel("growth after, % of the training FLOPs")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)


def page(found: Found) -> str:
    """docs/results/python.md."""
    seeds = len(found.seeds)
    late = max(
        float(found.column((GRID, way, moment), "grown_at").max()) - moment for way in OPERATORS for moment in MOMENTS
    )
    spent = sum(float(row["training_flops"]) for run, row in found.rows.items() if run[-1] == str(TUNING_SEED))
    lines = [
        "# Which blocks to add to a language model, and when",
        "",
        "Made by `python scripts/study_python.py`; every run is a row of [python.csv](data/python.csv).",
        "",
        "A byte-level GPT (width 32, context 64, batches of 16 windows, clip_norm=1) of two blocks on Python's sources becomes "
        f"one of six in one event, {'/'.join(f'{moment:.0%}' for moment in MOMENTS)} through its training FLOPs (at most "
        f"{late:.1%} later), without steps of the new blocks alone. The rate of all blocks rises at the start and after the "
        f"event, in {round(10 * BUDGETS[0] / GRID)} to {round(10 * BUDGETS[-1] / GRID)} steps by the budget; for all ways, "
        f"static ones too, it is constant up to {STEADY:.0%} of the FLOPs and then falls to zero. {seeds} "
        f"seeds{planned(seeds)}, from {FIRST_SEED} on.",
        "",
        "| operator | what is added |",
        "| --- | --- |",
        *(f"| {way} | {about} |" for way, about in ABOUT.items()),
        "",
        f"## Operator × moment at {GRID:.3g} FLOPs: test loss, nats, mean ± sd",
        "",
        *cells(found),
        "",
        "Bold: the moment with the lowest *validation* loss.",
        "",
        *verdicts(questions(found)),
        "",
    ]
    if found.finished:
        lines += [
            "![operators and moments](../images/python.png)",
            "",
            f"## The three best operators at four budgets, test loss, δ = {DELTA:g} nats",
            "",
            f"Kept for their validation loss at {GRID:.3g} FLOPs, each at its best moment: {found.ranking()}. The first is tried "
            "at every moment, the others at the one that was best there.",
            "",
            *budgets(found),
            "",
            *rule(found),
        ]
    else:
        lines += ["The other budgets are not told yet: they are not finished.", ""]
    lines += [
        f"## Rates: validation loss on seed {TUNING_SEED}",
        "",
        f"Each way has the best of {len(RATES)} at each budget, an operator for all moments that of {TUNED_AT:.0%}.",
        "",
        *searched(found),
        "",
        f"The search took {spent:.2g} FLOPs, the ladder of three static sizes costs {len(STATIC) * GRID:.2g} a seed at "
        f"{GRID:.3g} FLOPs.",
        "",
        "Paired t-tests and, for equality, two one-sided ones, corrected over each table as `grow compare` does (the two "
        f"comparisons of the table of budgets are a table each; level {LEVEL:g}); δ and the questions were fixed before the "
        "runs. Moments, operators and `static-best` are chosen on validation losses of the seeds that they are judged on, by "
        "test losses; the test part is read once, at a run's end.",
    ]
    return "\n".join(lines)


def main() -> None:
    options = arguments(__doc__, PLANNED).parse_args()
    if not options.finished:
        train_all(options.jobs, options.seeds)
    found = Found(TABLE.rows(), options.seeds)
    if options.seeds < 2 or not found.grid_finished:
        raise SystemExit(
            f"not all {options.seeds} seeds of the grid are trained: leave out --finished, or give fewer --seeds"
        )
    if found.finished:
        draw(found, ROOT / "docs" / "images" / "python.png")
    print(write_page("python", page(found)))


if __name__ == "__main__":
    main()
