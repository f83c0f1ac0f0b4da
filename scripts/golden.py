"""Show that a refactoring changed no number: some forty short configurations, trained before and after it.

    python scripts/golden.py keep FOLDER [--checkout PATH] [--only PART]   train them and keep what came out, a file each
    python scripts/golden.py compare FOLDER OTHER                          exit 1 if any number differs
    python scripts/golden.py against COMMIT [--only PART]                  both, from a temporary worktree of the commit

Kept are metrics.csv, growth.jsonl and summary.json without clocks and provenance, and a hash of every tensor of the net and
its optimizer. Columns and fields that only the second has are listed and are no difference. A configuration that is to grow
and does not is an error: it would prove nothing.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_CLOCKS = ("seconds", "memory", "device", "versions", "commit", "overrides", "file", "ended_by")
_JOBS = 2


@dataclass(frozen=True)
class Golden:
    """One configuration."""

    name: str
    overrides: str
    grows: bool = True
    stopped_after: int = 0
    """Rows of metrics.csv after which it is stopped, and then resumed; 0: it runs through."""
    control: str = ""
    """Also train this control of it, which is kept in its place."""


_DEPTH = "stop.epochs=8 subset=300 trigger=every trigger.every=2 method.warmup_steps=10 trajectory.every=2"
_WIDTH = "stop.epochs=6 subset=400 trigger=every trigger.every=1 growth.neurons=3"
_MOONS = "dataset=moons dataset.samples=300 dataset.test_samples=200"
_SENN = "method.proposals=8 method.layer_proposals=4 method.steps=8 method.samples=128 method.held_out=96"
_ONE = "method=fold method.neurons_per_event=1"
_FOLD = f"{_ONE} {_MOONS} model.hidden=[3] trigger=every trigger.every=2 stop.epochs=8 growth.until=0.9"
_SENN_RUN = (
    f"method=senn {_MOONS} model.hidden=[2] trigger=every trigger.every=3 stop.epochs=9 {_SENN} method.tau=1.01 "
    "method.alpha=0.0001"
)

CONFIGURATIONS = (
    Golden("alether", f"method=alether {_DEPTH}"),
    Golden("alether_table1", f"method=alether_table1 {_DEPTH}"),
    Golden("alether_tau_kappa", "method=alether stop.epochs=10 subset=300 trajectory.window=6 trajectory.every=1 "
           "trigger.patience=2 trigger.tau_crit=0 trigger.kappa_crit=0 method.warmup_steps=10"),
    Golden("alether_diffusion", "method=alether stop.epochs=10 subset=300 trajectory.window=6 trajectory.every=1 "
           "trigger.patience=2 trigger.scale=diffusion trigger.tau_crit=0.1 trigger.kappa_crit=0.1 method.warmup_steps=5"),
    Golden("alether_smoothing", f"method=alether {_DEPTH} trajectory.smoothing=0.9 trajectory.dtype=int8"),
    Golden("alether_adaptive", f"method=alether {_DEPTH} trajectory.sampling=adaptive trajectory.every=1"),
    Golden("alether_vit", f"method=alether model=vit model.dim=16 model.heads=2 model.mlp=[16,16] {_DEPTH} clip_norm=1"),
    Golden("alether_cnn", f"method=alether model=residual_cnn model.width=8 model.hidden=[8,8] {_DEPTH} model.norm=batch"),
    Golden("copy", f"method=copy {_DEPTH} optimizer=sgd schedule=cosine"),
    Golden("random_block", f"method=random {_DEPTH} model.norm=batch label_smoothing=0.1"),
    Golden("random_width", f"method=random_width {_WIDTH} schedule=one_cycle"),
    Golden("tiny", f"method=tiny {_WIDTH}"),
    Golden("tiny_dropout", f"method=tiny {_WIDTH} model.dropout=0.2 optimizer=adam"),
    Golden("tiny_batch_norm", f"method=tiny {_WIDTH} model.norm=batch"),
    Golden("tiny_best", f"method=tiny {_WIDTH} method.where=best method.significance=false"),
    Golden("tiny_batch_growth", f"method=tiny {_WIDTH} method.batch_growth=true"),
    Golden("tiny_by_growth", f"method=tiny {_WIDTH} method.train_by_growth=true growth.until=1"),
    Golden("tiny_cnn", f"method=tiny model=cnn model.channels=[[2],[3]] model.hidden=[4] {_WIDTH} dataset.crop=1 "
           "dataset.flip=true"),
    Golden("tiny_regression", "method=tiny dataset=curve model.hidden=[2] stop.epochs=8 trigger.every=2"),
    Golden("tiny_rollback", f"method=tiny {_WIDTH} growth.rollback=true optimizer.lr=0.05 growth.until=1 stop.epochs=10"),
    Golden("tiny_resnet", "method=tiny model=resnet18 model.stream=[4,4] model.hidden=[[1],[1]] model.classifier=[8] "
           "stop.epochs=3 subset=200 trigger.every=1 growth.neurons=2 method.max_samples=200"),
    Golden("gradmax", f"method=gradmax {_WIDTH}"),
    Golden("net2net", f"method=net2net {_WIDTH} model.hidden=[4,4] schedule=constant"),
    Golden("tiny_eta", f"method=tiny {_WIDTH} trigger=eta trigger.every=1 trigger.samples=128"),
    Golden("tiny_plateau", "method=tiny subset=400 growth.neurons=3 trigger=plateau trigger.patience=1 stop.epochs=12 "
           "optimizer.lr=0.1 growth.until=1"),
    Golden("tiny_at", "method=tiny subset=400 trigger=at trigger.steps=[11,30] stop.steps=80 stop.epochs=null "
           "evaluate.unit=steps evaluate.every=10 evaluate.test_every=2"),
    Golden("tiny_steps", "method=tiny subset=400 trigger=every trigger.unit=steps trigger.every=20 stop.epochs=6 "
           "growth.neurons=2 growth.max_units=[6] stop.train_score=1"),
    Golden("tiny_all_data", f"method=tiny {_WIDTH} dataset.validation=0"),
    Golden("tiny_any", "method=tiny subset=400 trigger=any ~trigger.of.tau_kappa trigger.of.plateau.patience=1 "
           "stop.epochs=12 optimizer.lr=0.1 growth.until=1"),
    Golden("copy_all", "method=copy subset=300 trigger=all trigger.of.plateau.patience=1 trigger.of.tau_kappa.tau_crit=0 "
           "trigger.of.tau_kappa.kappa_crit=0 trigger.of.tau_kappa.patience=1 trajectory.window=4 trajectory.every=1 "
           "stop.epochs=20 growth.until=0.9 method.warmup_steps=5 optimizer.lr=0.02"),
    Golden("fold", _FOLD),
    Golden("fold_all", f"{_FOLD} method.regularize=all method.cluster=hdbscan method.outgoing=descent"),
    Golden("fold_adf", f"{_ONE} {_MOONS} model.hidden=[2] trigger.window=8 trigger.require_flat=false trigger.tolerance=9 "
           "trigger.level=0.9 stop.epochs=12 evaluate.every=0.5 growth.until=0.9"),
    Golden("fold_regression", f"{_ONE} dataset=curve model.hidden=[2] trigger=every trigger.every=2 stop.epochs=8"),
    Golden("senn", f"{_SENN_RUN} optimizer=natural optimizer.iterations=10"),
    Golden("senn_langevin", f"{_SENN_RUN} method.search=langevin method.residual=network method.judged=refitted"),
    Golden("senn_width", f"{_SENN_RUN} method.depth=false model.activation=tanh"),
    Golden("senn_eta", f"{_SENN_RUN} trigger=eta".replace(" trigger.every=3", "")),
    Golden("static", "method=static model=mlp model.hidden=[8] stop.epochs=5 subset=300", grows=False),
    Golden("static_sgd", f"method=static model=mlp {_MOONS} optimizer=natural stop.epochs=2 batch_size=64", grows=False),
    Golden("replay", f"method=tiny {_WIDTH} seed=1", control="random-replay"),
    Golden("replay_depth", f"method=alether {_DEPTH} seed=1", control="random-replay"),
    Golden("static_flops", f"method=tiny {_WIDTH} seed=2", grows=False, control="static-flops"),
    Golden("static_parameters", f"method=random_width {_WIDTH} model.hidden=[3,6] growth.neurons=2 seed=3", grows=False,
           control="static-parameters"),
    Golden("tiny_resumed", f"method=tiny {_WIDTH} stop.epochs=40", stopped_after=5),
    Golden("alether_resumed", f"method=alether {_DEPTH} stop.epochs=60", stopped_after=12),
    Golden("fold_resumed", f"{_FOLD} stop.epochs=150", stopped_after=20),
)  # fmt: skip


def main() -> int:
    """Parse, and do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keep", "compare", "against"))
    parser.add_argument("first", help="a folder, or a commit")
    parser.add_argument("second", nargs="?", help="the other folder")
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--only", default="", help="configurations whose name holds this")
    options = parser.parse_args()
    chosen = [g for g in CONFIGURATIONS if options.only in g.name]
    if options.what == "keep":
        return keep(chosen, Path(options.first), options.checkout.resolve())
    if options.what == "compare":
        return compare(Path(options.first), Path(options.second))
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "-q", tree, options.first], check=True)
        try:
            failed = keep(chosen, Path(folder) / "before", tree) + keep(chosen, Path(folder) / "after", ROOT)
            return compare(Path(folder) / "before", Path(folder) / "after") or failed
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def keep(chosen: list[Golden], folder: Path, checkout: Path) -> int:
    """Train with the package of a checkout and write what came out."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="golden-") as runs, ThreadPoolExecutor(_JOBS) as pool:
        found = list(pool.map(lambda golden: _trained(golden, Path(runs) / golden.name, checkout), chosen))
    for golden, kept in zip(chosen, found, strict=True):
        if isinstance(kept, str):
            print(f"{golden.name}: {kept}")
            continue
        (folder / f"{golden.name}.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return int(any(isinstance(kept, str) for kept in found))


def _grow(checkout: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    return subprocess.Popen(
        [sys.executable, "-m", "grow_cli", *words],
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _trained(golden: Golden, run: Path, checkout: Path) -> dict[str, Any] | str:
    """What came out, or what went wrong."""
    settings = [f"run_dir={run}", "progress=off", "device=cpu", "threads=1"]
    child = _grow(checkout, "train", *golden.overrides.split(), *settings)
    metrics = run / "metrics.csv"
    if golden.stopped_after:
        while child.poll() is None and _lines(metrics) <= golden.stopped_after:
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        if child.wait() != 143:
            return f"was not stopped by SIGTERM (exit code {child.returncode})"
        child = _grow(checkout, "resume", str(run), "progress=off")
    _, errors = child.communicate()
    if child.returncode:
        return errors.strip()[-600:]
    if golden.control:
        child = _grow(checkout, "controls", str(run), "--only", golden.control, "progress=off", "device=cpu")
        _, errors = child.communicate()
        run = run / "controls" / golden.control
        if child.returncode or not (run / "summary.json").exists():
            return f"no control: {errors.strip()[-600:]}"
    kept = _read(run)
    shutil.rmtree(run)
    grew = any(event["units_added"] > 0 for event in kept["growth"])
    return kept if grew == golden.grows else f"it {'grew' if grew else 'did not grow'}: it proves nothing so"


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _read(run: Path) -> dict[str, Any]:
    import torch

    with (run / "metrics.csv").open(newline="") as file:
        metrics = list(csv.DictReader(file))
    growth = run / "growth.jsonl"
    events = [json.loads(line) for line in growth.read_text().splitlines()] if growth.exists() else []
    state = torch.load(run / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    content = {"metrics": metrics, "growth": events, "summary": json.loads((run / "summary.json").read_text())}
    hashes = {name: _hashed(tensor) for name, tensor in state["model"].items()}
    moments = {f"{i}.{n}": _hashed(t) for i, of in state["optimizer"]["state"].items() for n, t in of.items()}
    return dict(_without_clocks(content)) | {"model": hashes, "optimizer": moments}


def _hashed(tensor: Any) -> str:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return repr(tensor)
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_clocks(v) for k, v in value.items() if not any(clock in k for clock in _CLOCKS)}
    return [_without_clocks(v) for v in value] if isinstance(value, list) else value


def compare(before: Path, after: Path) -> int:
    """Print the first differences of each configuration."""
    names = sorted({path.name for folder in (before, after) for path in folder.glob("*.json")})
    wrong = 0
    added: set[str] = set()
    for name in names:
        if not ((before / name).exists() and (after / name).exists()):
            found = ["is in one of the folders only"]
        else:
            pair = [json.loads((folder / name).read_text()) for folder in (before, after)]
            found = list(_differences("", pair[0], pair[1], added))
        wrong += bool(found)
        for line in found[:5]:
            print(f"{name.removesuffix('.json')}: {line}")
    if added:
        print("added:", ", ".join(sorted(added)))
    print(f"{len(names) - wrong} of {len(names)} configurations are the same to the last bit")
    return int(wrong > 0 or not names)


def _differences(where: str, old: Any, new: Any, added: set[str]) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        added |= {f"{where}{key}" for key in new.keys() - old.keys()}
        for key in old:
            if key in new:
                yield from _differences(f"{where}{key}.", old[key], new[key], added)
            else:
                yield f"{where}{key} is gone"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{where}{i}.", pair[0], pair[1], added)
    elif old != new:
        yield f"{where[:-1]}: {str(old)[:200]} → {str(new)[:200]}"


if __name__ == "__main__":
    sys.exit(main())
