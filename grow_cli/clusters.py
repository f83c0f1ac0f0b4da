"""The keys of a sweep whose jobs a cluster runs: what each job is given, and how the sweep waits for them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from grow_cli.errors import check
from grow_cli.keys import key

OURS = {
    "array": "sweep.jobs", "partition": "sweep.partition", "account": "sweep.account", "qos": "sweep.qos",
    "time": "sweep.minutes", "cpus-per-task": "sweep.cpus", "mem": "sweep.memory_gb", "gpus-per-node": "sweep.gpus",
    "signal": "sweep.lead_seconds",
}  # fmt: skip
"""Options of sbatch that a key of ours stands for."""
KEPT = (
    "parsable",
    "output",
    "error",
    "open-mode",
    "requeue",
    "no-requeue",
    "wrap",
    "wait",
    "test-only",
    "ntasks",
    "clusters",
)
"""Options of sbatch on which it depends that jobs are found, counted and go on again."""


@dataclass
class OnClusters:
    """Of `sweep=slurm` and `sweep=ray`: what a cluster is asked for, for each job."""

    partition: str | None = key(None, null="for the cluster's default")
    """Of `slurm`: the partition that the jobs wait in."""
    account: str | None = key(None, null="for your default account")
    """Of `slurm`: the account that the time is charged to."""
    qos: str | None = key(None, null="for your default")
    """Of `slurm`: the quality of service."""
    minutes: int = key(240, at_least=1, at_most=525_600)
    """Of `slurm`: a job's time limit; a job that is not through by then saves, is queued again and goes on."""
    lead_seconds: int = key(120, at_least=1, at_most=65_535)
    """Of `slurm`: how long before the time limit a job is asked to save; a step, a growth event and a checkpoint must fit in."""
    cpus: int | None = key(None, at_least=1, at_most=4096, null="for the cluster's default, or one")
    """Of `slurm` and `ray`: processors per job."""
    memory_gb: int | None = key(None, at_least=1, at_most=65_536, null="for the cluster's default")
    """Of `slurm`: memory per job."""
    gpus: int | None = key(None, at_least=0, at_most=64, null="for none, of `ray` one where there are GPUs")
    """Of `slurm` and `ray`: GPUs per job."""
    options: list[str] = key(make=list)
    """Of `slurm`: further options of sbatch, each a text in quotes: ["--constraint=a100","--exclusive"]."""
    wait: bool = True
    """Of `slurm`: stay until all jobs have ended; false: submit them and leave."""
    address: str | None = key(None, null="for a Ray of its own on this machine")
    """Of `ray`: the running cluster: auto (of this machine), or HOST:PORT of its head."""
    resources: dict[str, float] = key(make=dict)
    """Of `ray`: what else a job takes of a node, by the cluster's own names: {big_memory: 1}."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # a section's: ranges
        for name in ("partition", "account", "qos"):
            value = getattr(self, name)
            check(
                value is None or re.fullmatch(r"[\w.,@:+][\w.,@:+-]*", value) is not None,
                f"sweep.{name}={value!r}: must be a name as Slurm has them (letters, digits and .,@:+-), or null",
            )
        check(
            self.lead_seconds < 60 * self.minutes,
            f"sweep.lead_seconds={self.lead_seconds}: must be below the time limit, sweep.minutes={self.minutes}",
        )
        for option in self.options:
            _check_option(option)
        for name, amount in self.resources.items():
            check(
                name not in ("CPU", "GPU") and 0 < amount < math.inf,
                f"sweep.resources={{{name}: {amount:g}}}: must be above 0, and CPU and GPU are sweep.cpus and sweep.gpus",
            )


def _check_option(option: str) -> None:
    found = re.fullmatch(r"--([a-z][a-z0-9-]*)(=[^\x00-\x1f\x7f]+)?", option)
    check(found is not None, f"sweep.options has {option!r}: give options of sbatch as --NAME or --NAME=VALUE")
    assert found is not None
    check(found[1] not in OURS, f"sweep.options has {option}: give {OURS.get(found[1])} instead")
    check(
        found[1] not in KEPT,
        f"sweep.options has {option}: leave it out, grow itself gives --{found[1]} or what replaces it",
    )
