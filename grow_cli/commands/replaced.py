"""What Hydra's launchers and sweepers did, and `grow` itself does now: refused, with what to type instead."""

from __future__ import annotations

from collections.abc import Sequence

from grow_cli.errors import UserError

KEYS = {
    "slurm": {
        "timeout_min": "sweep.minutes", "signal_delay_s": "sweep.lead_seconds", "gpus_per_node": "sweep.gpus",
        "cpus_per_task": "sweep.cpus", "mem_gb": "sweep.memory_gb", "array_parallelism": "sweep.jobs",
        "partition": "sweep.partition", "account": "sweep.account", "qos": "sweep.qos",
    },
    "ray": {
        "address": "sweep.address", "num_cpus": "sweep.cpus", "num_gpus": "sweep.gpus", "resources": "sweep.resources",
        "max_retries": "sweep.retries",
    },
}  # fmt: skip
"""Engine → the last word of a key of Hydra's launcher → the key that took its place."""
_OTHERS = {
    "slurm": "give options of sbatch by 'sweep.options=[\"--NAME=VALUE\"]'",
    "ray": f"leave it out, or use {', '.join(KEYS['ray'].values())}",
}


def refuse(arguments: Sequence[str]) -> None:
    """UserError for what was replaced."""
    engine = next((name for name in KEYS if f"sweep={name}" in arguments), None)
    for word in arguments:
        name, _, value = word.lstrip("+~").partition("=")
        if word == "sweep=optuna" or word.startswith(("hydra/sweeper=optuna", "hydra/sweeper/sampler=")):
            raise UserError(f"{word}: a search is `grow tune` now: name what is searched in its --space FILE")
        if word == "hydra/launcher=ray":
            raise UserError(f"{word}: Hydra's launcher for Ray is not used any more: type sweep=ray instead")
        if engine is not None and name.startswith(("hydra.launcher", "hydra/launcher")):
            remedy = _instead(engine, name.rpartition(".")[2], value)
            raise UserError(f"{word}: sweep={engine} has no launcher of Hydra's any more: {remedy}")


def _instead(engine: str, key: str, value: str) -> str:
    if key in KEYS[engine]:
        return f"type {KEYS[engine][key]}={value}"
    if key == "max_num_timeout":
        return "leave it out, since a job is queued again as often as its time ends"
    return _OTHERS[engine]
