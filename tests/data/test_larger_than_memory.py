"""Sets that a job has no memory for: batches come from the file, which all jobs of a machine share.

A memory control group needs rights that a test has not. What is asserted is RssAnon, sampled: the memory that belongs to a
process alone, without the pages of mapped files, which the system takes back when it needs them. It stays below a quarter of the
decoded set. Beside it `ulimit -d` (RLIMIT_DATA) at half of the set has the system refuse more: not at a quarter, for there the
writable data of torch's libraries count with 0.76 GB, most of which is never touched. Pss is a process's share of what it has
in memory together with others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from bench_mapped import solid_images

from grow_cli.data.datasets.image_folder import ImageFolder
from grow_cli.data.mapped import Rows
from grow_cli.data.tensors import load_data

SIDE = 224


def bytes_in(file: str, field: str) -> int:
    """`RssAnon` of /proc/PID/status, `Pss` of /proc/PID/smaps_rollup; 0 where the process has ended."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


@pytest.mark.slow
def test_a_pass_over_a_folder_takes_less_memory_than_a_quarter_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    n = 300
    option = ImageFolder(name="image_folder", path=str(solid_images(tmp_path / "images", n, SIDE)), storage="mapped")
    status = f"/proc/{os.getpid()}/status"
    load_data(option, data_dir=tmp_path, subset=None, device=torch.device("cpu"))  # decodes
    before = bytes_in(status, "RssAnon")
    data = load_data(option, data_dir=tmp_path, subset=None, device=torch.device("cpu"))
    most = 0
    for split in (data.train, data.val, data.test):
        assert isinstance(split.x, Rows)
        for x in split.x.split(4):
            prepared = data.prepare(x)
            most = max(most, bytes_in(status, "RssAnon") - before)
        assert prepared.shape[1:] == (3, SIDE, SIDE)
    assert most < n * 3 * SIDE**2 / 4


@pytest.mark.slow
def test_four_jobs_train_on_20000_images_each_with_memory_for_a_quarter_of_them_and_decode_them_once(
    tmp_path: Path,
) -> None:
    n, jobs = 20_000, 4
    images = solid_images(tmp_path / "images", n, SIDE)
    decoded = n * 3 * SIDE**2
    command = [
        *(sys.executable, "-m", "grow_cli", "train", "dataset=image_folder", f"dataset.path={images}", "threads=1"),
        *("method=net2net", "model=cnn", "model.channels=[[2],[3],[4]]", "model.head=gap", "optimizer.lr=0.01"),
        *("batch_size=8", "evaluate.batch_size=8", "evaluate.probe=8", "stop.steps=60", "evaluate.every=30"),
        *("evaluate.unit=steps", "trigger=every", "trigger.every=30", "trigger.unit=steps", "progress=off"),
    ]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    limited = ["bash", "-c", 'ulimit -d "$0" && exec "$@"', str(decoded // 2 // 1024)]
    children = []
    for seed in range(jobs):
        with (tmp_path / f"err{seed}").open("w") as err:
            typed = [*limited, *command, f"seed={seed}", f"run_dir=run{seed}"]
            children.append(subprocess.Popen(typed, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=err))
    own, shared = [0] * jobs, 0
    while any(child.poll() is None for child in children):
        for i, child in enumerate(children):
            own[i] = max(own[i], bytes_in(f"/proc/{child.pid}/status", "RssAnon"))
        shared = max(shared, sum(bytes_in(f"/proc/{child.pid}/smaps_rollup", "Pss") for child in children))
        time.sleep(0.2)
    said = [(tmp_path / f"err{seed}").read_text() for seed in range(jobs)]
    assert [child.returncode for child in children] == [0] * jobs, said
    print(f"own {[x // 10**6 for x in own]} MB, together {shared / 1e9:.2f} GB, decoded {decoded / 1e9:.2f} GB")

    assert all(
        "each batch is read from" in text.replace("\n", " ") for text in said
    )  # dataset.storage=auto saw the limit
    assert sum("Another job is decoding" in text for text in said) == jobs - 1
    (file,) = (tmp_path / "cache/grow/image_folder").iterdir()
    assert file.stat().st_size < 1.02 * decoded
    assert max(own) < decoded / 4
    assert sum(own) < decoded
    assert (
        shared < decoded + sum(own) + jobs * 400e6
    )  # the file's pages once, not four times; the rest is the libraries
    for seed in range(jobs):
        events = [json.loads(line) for line in (tmp_path / f"run{seed}/growth.jsonl").read_text().splitlines()]
        assert any(event["units_added"] for event in events)
        assert json.loads((tmp_path / f"run{seed}/summary.json").read_text())["test_accuracy"] > 0.9
