"""scripts/common.py: the CSV of finished runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common

KEYS = ("way", "seed")


def test_a_recorded_run_is_found_by_its_keys_and_takes_the_place_of_its_former_row(tmp_path: Path) -> None:
    path = tmp_path / "data" / "runs.csv"
    assert common.recorded(path, KEYS) == {}
    common.record(path, KEYS, {"way": "plain", "seed": 100, "widths": "4, 3", "score": 0.1 + 0.2})
    common.record(path, KEYS, {"way": "plain", "seed": 101, "widths": "5", "score": 0.5})
    common.record(path, KEYS, {"way": "plain", "seed": 100, "widths": "6", "score": 1e-9})
    assert path.read_text().splitlines() == ["way,seed,widths,score", "plain,100,6,1e-09", "plain,101,5,0.5"]
    assert common.recorded(path, KEYS)["plain", "101"]["score"] == "0.5"
    assert list(common.recorded(path, ("widths",))) == [("6",), ("5",)]
    assert [file.name for file in path.parent.iterdir()] == ["runs.csv"]


def test_numbers_are_recorded_to_the_last_bit(tmp_path: Path) -> None:
    score = 0.1 + 0.2
    common.record(tmp_path / "runs.csv", ("seed",), {"seed": 0, "score": score})
    assert float(common.recorded(tmp_path / "runs.csv", ("seed",))["0",]["score"]) == score


def test_several_may_record_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: common.record(path, ("seed",), {"seed": seed, "score": seed}), range(24)))
    assert len(common.recorded(path, ("seed",))) == 24
