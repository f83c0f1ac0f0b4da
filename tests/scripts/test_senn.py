"""scripts/senn.py: what its pages are made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import senn

from grow_cli.api.overrides import typed
from grow_cli.commands.train import compose


@pytest.mark.parametrize("part", senn.SUBSETS)
def test_rows_with_equal_samples_differ_in_the_data_alone(part: str) -> None:
    """Where the data are fewer than a visit asks for, it takes what there is: such a part would be judged on less."""
    smallest = 54_000 * float(senn.SUBSETS[0])
    words = [*senn.CASES["subsets"][f"{part}-equal"], f"experiment={senn.NAMES['subsets']}"]
    method = compose(typed(words, {})).method
    assert method.samples + method.held_out == smallest
    plain = compose(typed([*senn.CASES["subsets"][part], f"experiment={senn.NAMES['subsets']}"], {})).method
    assert plain.samples + plain.held_out == 20_480, "what the page says"


def test_the_page_of_subsets_has_both_and_ranks_them_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senn, "ROOT", tmp_path)
    for case in senn.CASES["subsets"]:
        for seed in (0, 1):
            units = 10 if case.endswith("equal") else 10 + 20 * float(case)
            run = tmp_path / "outputs" / "senn" / "subsets" / case / str(seed)
            run.mkdir(parents=True)
            (run / "growth.jsonl").write_text("")
            accuracies = {f"{split}_accuracy": 0.9 + 0.01 * seed for split in ("train", "val", "test")}
            summary = {"widths": f"{units + seed:.0f}", "seconds": 1, "growth_seconds": 1, **accuracies}
            (run / "summary.json").write_text(json.dumps(summary))
    text = "\n".join(senn.by_size(2))
    assert "| 1.0 | 54,000 | 20,480 | 30.5 ± 0.5 | 90.50 ± 0.50 |" in text
    assert "| 1.0, equal | 54,000 | 1,080 | 10.5 ± 0.5 |" in text
    assert "Spearman's ρ of width and size: 0.9" in text
    assert "with equal samples 0.00" in text
