"""Reading summary.json: every field has its type, and a missing one raises an error in a sentence."""

from __future__ import annotations

from pathlib import Path

from grow_cli.records.reading import (
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    WIDTHS,
    Fields,
    check_fields,
    damaged,
    json_data,
    number,
)
from grow_cli.tasks import TASKS

_COUNTS = ("seed", "steps", "growth_steps", "events", "undone", "best_step", "parameters", "flops_per_sample")
_NUMBERS = (
    "epochs",
    "training_flops",
    "growth_flops",
    "seconds",
    "growth_seconds",
    "compile_seconds",
    "peak_memory_bytes",
)
_TEXTS = ("status", "dataset", "model", "method", "trigger", "device", "ended_by")
_KINDS = {
    **dict.fromkeys(_COUNTS, WHOLE),
    **dict.fromkeys(_NUMBERS, (lambda value: number(value) and value >= 0, "a number, 0 or more")),
    **dict.fromkeys((*_TEXTS, "error", "label", "control", "commit"), TEXT),
    **dict.fromkeys(("architecture", "versions", "ended", "thresholds", "data"), OBJECT),
    **{
        f"{prefix}{split}_{name}": NUMBER
        for prefix in ("", "best_", "whole_")
        for split in ("train", "val", "test")
        for name in dict.fromkeys(name for task in TASKS.values() for name in ("loss", task.score, *task.beside))
    },
    **{f"mistakes_{name}": NUMBER for name in ("targeted", "corrected")},
    "widths": WIDTHS,
}


def read_summary(path: Path, root: Path) -> Fields:
    """The summary in this file; Damaged where a field is not what grow writes."""
    found = json_data(path, root)
    if not isinstance(found, dict):
        raise damaged(path, "it is no JSON object")
    check_fields(path, found, _KINDS)
    for name, inner, kind in (("ended", "rule", str), ("architecture", "model", dict), ("data", "corpus", dict)):
        if found.get(name) is not None and not isinstance(found[name].get(inner, kind()), kind):
            raise damaged(path, f"{inner} of {name} is {found[name][inner]!r}")
    if not all(value is None or number(value) for value in (found.get("thresholds") or {}).values()):
        raise damaged(path, "thresholds are not numbers")
    # null where nothing was measured; of what every run has, it is as if the field were not there
    never = (*_COUNTS, *_NUMBERS, *_TEXTS, "architecture", "ended", "widths")
    return migrate(Fields(path, {key: value for key, value in found.items() if value is not None or key not in never}))


# last word of `ended_by` → the rule that it told of, before the summary had `ended`
_RULES = {"epochs": "epochs", "steps": "steps", "seconds": "seconds", "FLOPs": "flops"}


def migrate(summary: Fields) -> Fields:
    """A summary written by an older grow, with missing fields added."""
    words = str(summary.get("ended_by", "")).split()
    if words and "ended" not in summary:
        summary["ended"] = {"rule": _RULES.get(words[-1], ""), "value": None}
    return summary
