"""scripts/senn.py: what its pages are made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import senn

from grow_cli.api.overrides import typed
from grow_cli.commands.train import compose


def numbers(case: str) -> tuple[int, int]:
    """Samples on which an event of a run optimises, and on which it judges."""
    words = [*senn.CASES["subsets"][case], f"experiment={senn.NAMES['subsets']}"]
    method = compose(typed(words, {})).method
    return method.samples, method.held_out


@pytest.mark.parametrize("samples", senn.EQUAL)
def test_rows_with_equal_samples_differ_in_the_data_alone(samples: int) -> None:
    """Where the data are fewer than a visit asks for, it takes what there is: such a part would be judged on less."""
    smallest, *others = senn.EQUAL[samples]
    assert senn.IMAGES * float(smallest) == samples in (1_080, 8_100)
    for part in others:
        assert numbers(f"{part}-{samples}") == (samples * 4 // 5, samples // 5)
    optimised, judged = numbers(smallest)
    assert optimised == 4 * judged  # so that what there is is shared alike: Visit takes it in the same proportion
    assert optimised + judged == 20_480, "what the page says"


def test_the_page_of_subsets_has_both_and_ranks_them_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senn, "ROOT", tmp_path)
    for case in senn.CASES["subsets"]:
        for seed in (0, 1):
            units = 10 if "-1080" in case else 10 + 20 * float(case.split("-")[0])
            run = tmp_path / "outputs" / "senn" / "subsets" / case / str(seed)
            run.mkdir(parents=True)
            (run / "growth.jsonl").write_text("")
            accuracies = {f"{split}_accuracy": 0.9 + 0.01 * seed for split in ("train", "val", "test")}
            summary = {"widths": f"{units + seed:.0f}", "seconds": 1, "growth_seconds": 1, **accuracies}
            (run / "summary.json").write_text(json.dumps(summary))
    text = "\n".join(senn.by_size(2))
    assert "| 1.0 | 54,000 | 20,480 | 30.5 ± 0.5 | 90.50 ± 0.50 |" in text
    assert "| 0.02, equal | 1,080 | 1,080 | 10.5 ± 0.5 |" in text
    assert "| 1.0, equal | 54,000 | 1,080 | 10.5 ± 0.5 |" in text
    assert "| 1.0, equal | 54,000 | 8,100 | 30.5 ± 0.5 |" in text
    assert "up to 20,480 0.9" in text
    assert "1,080 for every part 0.0" in text
    assert "8,100 for every part 0.9" in text
