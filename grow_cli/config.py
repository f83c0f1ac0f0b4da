"""The root of a run's configuration: every key that is not in a config group, with its meaning and range."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from grow_cli import registry
from grow_cli.errors import UserError, check


@dataclass
class Stop:
    """The run ends as soon as one of these is reached; epochs, steps, seconds or flops must be given (they are the budget)."""

    epochs: int | None = None
    """Passes over the training split."""
    steps: int | None = None
    """Optimizer steps."""
    seconds: float | None = None
    """Wall time of training and growth, evaluation left out."""
    flops: float | None = None
    """Training FLOPs, those of growth included."""
    parameters: int | None = None
    """Trainable scalars."""
    growth_events: int | None = None
    """Growth events that added something."""
    plateau: int | None = None
    """Evaluations without a better validation loss."""
    val_score: float | None = None
    """Validation accuracy, from 0 to 1 (R² for regression)."""
    train_score: float | None = None
    """The same of the whole training split, which is then measured at every evaluation, too (`whole_train_accuracy`), without
    augmentation and dropout; like all evaluation that counts in neither `seconds` nor `flops`."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            check(
                value is None or value > 0,
                f"stop.{f.name}={value}: must be above 0, or null for no such rule",
            )
        for name in ("val_score", "train_score"):
            value = getattr(self, name)
            check(value is None or value <= 1, f"stop.{name}={value}: a fraction, at most 1 (0.97 for 97 %)")
        check(
            any(v is not None for v in (self.epochs, self.steps, self.seconds, self.flops)),
            "stop.epochs, stop.steps, stop.seconds and stop.flops are all null: give one of them, it is the run's budget",
        )


@dataclass
class Growth:
    """When growing is allowed at all, whatever trigger and method."""

    until: float = 0.6
    """Fraction of the budget after which nothing grows any more and the `anneal` schedule runs the rate to zero."""
    max_events: int | None = None
    """No more growth after so many events that added something."""
    max_parameters: int | None = None
    """No more growth once the net has so many parameters."""
    neurons: int | None = 10
    """Width: most new units per hidden layer and event; null: as many as its consumer has outputs, or the fan-in if less."""
    max_units: list[int] | None = None
    """Width at which a hidden layer stops growing: one number for all, or one for each; null: no limit."""
    max_total_units: int | None = None
    """No more hidden units than so many in the whole net, those of new layers included; null: no limit."""
    rollback: bool = False
    """Undo a growth after which validation accuracy (R²) is no better when the trigger fires again: weights and optimizer go
    back, steps and FLOPs stay spent, and it counts as an event all the same. The last one before the end of the run stays."""
    optimizer_state: str = "carry"
    """`carry`: the moments of old entries survive growth, new ones start at zero; `reset`: all are forgotten."""

    def __post_init__(self) -> None:
        check(0 <= self.until <= 1, f"growth.until={self.until}: a fraction of the budget, from 0 to 1")
        check(
            self.optimizer_state in ("carry", "reset"),
            f"growth.optimizer_state={self.optimizer_state}: must be carry or reset",
        )
        check(
            self.neurons is None or self.neurons >= 1,
            f"growth.neurons={self.neurons}: must be 1 or more, or null for as many as the consumer has outputs",
        )
        check(
            self.max_units is None or (len(self.max_units) > 0 and min(self.max_units) >= 1),
            f"growth.max_units={self.max_units}: widths of 1 or more, one for all or one for each hidden layer, or null",
        )
        for name in ("max_events", "max_parameters", "max_total_units"):
            value = getattr(self, name)
            check(value is None or value >= 0, f"growth.{name}={value}: must be 0 or more, or null for no limit")


@dataclass
class Evaluate:
    """When the net is measured, the trigger asked and a row of metrics written."""

    every: float = 1
    """Distance between evaluations, in `unit`."""
    unit: str = "epochs"
    """`steps` or `epochs`."""
    batch_size: int = 2000
    """Samples per evaluation batch (memory, not results, depends on it)."""
    probe: int = 512
    """Samples in the fixed batch on which every growth event is measured."""
    test_every: int | None = None
    """Also read the test set at every so many evaluations; nothing may then be selected on it."""

    def __post_init__(self) -> None:
        check(self.every > 0, f"evaluate.every={self.every}: must be above 0")
        check(self.unit in ("steps", "epochs"), f"evaluate.unit={self.unit}: must be steps or epochs")
        check(self.batch_size >= 1, f"evaluate.batch_size={self.batch_size}: must be 1 or more")
        check(self.probe >= 1, f"evaluate.probe={self.probe}: must be 1 or more")
        check(
            self.test_every is None or self.test_every >= 1,
            f"evaluate.test_every={self.test_every}: must be 1 or more, or null for once at the end",
        )

    def distance(self, steps_per_epoch: float) -> float:
        """Steps between evaluations as they are meant; `steps` are those that there are."""
        return self.every * (steps_per_epoch if self.unit == "epochs" else 1)

    def steps(self, steps_per_epoch: float) -> int:
        """Whole steps from one evaluation to the next."""
        return max(1, round(self.distance(steps_per_epoch)))


@dataclass
class Trajectory:
    """The history of the frontier layer's weights (Alether, Def. 2), for triggers and methods that read it."""

    window: int = 20
    """S: snapshots held."""
    every: int = 10
    """Δ_collect: steps between snapshots."""
    dtype: str = "float32"
    """`float32`, `float16` or `int8`: how the differences between snapshots are stored."""
    storage: str = "device"
    """`device`, `cpu`, or `file` (memory-mapped, in the run folder)."""
    sampling: str = "uniform"
    """`uniform`, or `adaptive` (Remark 20: every Δ, 4Δ and 20Δ steps for recent, medium and old snapshots)."""
    smoothing: float = 0.0
    """Decay per step of a moving average of the weights, of which the snapshots are then taken; 0: of the weights."""

    def __post_init__(self) -> None:
        check(self.window >= 3, f"trajectory.window={self.window}: an acceleration needs 3 snapshots or more")
        check(self.every >= 1, f"trajectory.every={self.every}: must be 1 step or more")
        for name, allowed in (
            ("dtype", ("float32", "float16", "int8")),
            ("storage", ("device", "cpu", "file")),
            ("sampling", ("uniform", "adaptive")),
        ):
            value = getattr(self, name)
            check(value in allowed, f"trajectory.{name}={value}: must be one of {', '.join(allowed)}")
        check(
            self.sampling == "uniform" or self.window >= 6,
            f"trajectory.window={self.window}: trajectory.sampling=adaptive needs 6 snapshots or more",
        )
        check(0 <= self.smoothing < 1, f"trajectory.smoothing={self.smoothing}: must be from 0 to below 1")


@dataclass
class Checkpoint:
    """What survives a kill."""

    every: int = 1
    """Evaluations between checkpoints; before growth, at the best validation and at the end there is always one."""
    events: bool = False
    """Keep the net as it was before each growth event, for pictures: checkpoints/before-<event>.pt."""

    def __post_init__(self) -> None:
        check(self.every >= 1, f"checkpoint.every={self.every}: must be 1 or more")


@dataclass
class Config:
    """A run. `grow train KEY=VALUE ...` sets any of these."""

    dataset: Any = MISSING
    model: Any = MISSING
    method: Any = MISSING
    trigger: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    logger: Any = MISSING
    seed: int = 0
    """Of data order, initialization and growth, each of which has a random stream of its own."""
    data_dir: str | None = None
    """Where datasets are looked for and downloaded to; null: $GROW_DATA_DIR, else ~/.cache/grow."""
    subset: int | float | None = None
    """Train on a class-balanced part: a count (1000) or a fraction (0.1) of the training samples."""
    label: str | None = None
    """What the run is called in comparisons; null: its method."""
    control: str | None = None
    """Which control of the run that it lies in it is (`static-flops`, ...); set by `grow controls`."""
    run_dir: str | None = None
    """The run's folder (the sweep's, with -m); null: outputs/<dataset>/<method>/<time>-<id>."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str = "fp32"
    """fp32, tf32 (matrix products of fp32 tensors), or bf16 (autocast)."""
    threads: int | None = None
    """CPU threads of torch; null: one for small nets (more slow them down on a shared machine), else torch's choice."""
    compile: bool = False
    """torch.compile the training step."""
    batch_size: int = 128
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    """Largest norm of the gradient, over all parameters; null: not clipped."""
    progress: str = "auto"
    """auto (a live display on a terminal, nothing else), live, lines, or off."""
    stop: Stop = field(default_factory=lambda: Stop(epochs=30))
    growth: Growth = field(default_factory=Growth)
    evaluate: Evaluate = field(default_factory=Evaluate)
    trajectory: Trajectory = field(default_factory=Trajectory)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    def __post_init__(self) -> None:
        check(self.batch_size >= 1, f"batch_size={self.batch_size}: must be 1 or more")
        check(
            0 <= self.label_smoothing < 1,
            f"label_smoothing={self.label_smoothing}: must be from 0 to below 1",
        )
        check(
            self.clip_norm is None or self.clip_norm > 0,
            f"clip_norm={self.clip_norm}: must be above 0, or null for no clipping",
        )
        check(self.threads is None or self.threads >= 1, f"threads={self.threads}: must be 1 or more, or null")
        check(0 <= self.seed < 2**63, f"seed={self.seed}: must be from 0 to 2^63 - 1")
        for name, allowed in (
            ("precision", ("fp32", "tf32", "bf16")),
            ("progress", ("auto", "live", "lines", "off")),
        ):
            value = getattr(self, name)
            check(value in allowed, f"{name}={value}: must be one of {', '.join(allowed)}")
        kind, _, index = self.device.partition(":")
        check(
            kind in ("auto", "cpu", "cuda", "mps") and (not index or (kind == "cuda" and index.isdigit())),
            f"device={self.device}: must be auto, cpu, cuda, cuda:<number> or mps",
        )
        if self.subset is not None:
            fraction = isinstance(self.subset, float)
            check(
                0 < self.subset <= 1 if fraction else self.subset >= 1,
                f"subset={self.subset}: a count of 1 or more, or a fraction above 0 and up to 1.0",
            )

    @property
    def data_folder(self) -> Path:
        """Where datasets are, the default resolved."""
        chosen = self.data_dir or os.environ.get("GROW_DATA_DIR") or "~/.cache/grow"
        return Path(chosen).expanduser().absolute()


def register_schemas() -> None:
    """Tell Hydra every option's schema, as the group `schema`: it then refuses unknown keys and wrong types."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="run", node=Config)
    for group, options in registry.groups().items():
        for name, cls in options.items():
            store.store(group=f"schema/{group}", name=name, node=cls(name=name))


def build(raw: DictConfig) -> Config:
    """The composed config as typed, range-checked objects; UserError naming key, value and what is allowed."""
    _refuse_unknown_keys(raw, "")
    try:
        config = OmegaConf.to_object(raw)
    except ValueError as error:
        raise UserError(str(error)) from error
    assert isinstance(config, Config)
    return config


def _refuse_unknown_keys(node: DictConfig, prefix: str) -> None:
    # Hydra lets `+foo=1` through even where the node has a schema
    cls: Any = OmegaConf.get_type(node)
    known = {f.name for f in fields(cls)} if is_dataclass(cls) else None
    for key in map(str, node):
        if known is not None and key not in known:
            raise UserError(
                f"{prefix}{key} is not a key of the configuration: see `grow train --cfg job` for those that are"
            )
        if OmegaConf.is_missing(node, key):
            continue
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            _refuse_unknown_keys(child, f"{prefix}{key}.")


GROUP_KEYS = ("dataset", "model", "method", "trigger", "optimizer", "schedule", "logger")


def typed(raw: dict[str, Any]) -> DictConfig:
    """A config read from a run folder, its schemas attached again; UserError for an option that does not exist here."""
    known = {name: value for name, value in raw.items() if name not in GROUP_KEYS}
    merged = OmegaConf.merge(OmegaConf.structured(Config), known)
    assert isinstance(merged, DictConfig)
    for group in GROUP_KEYS:
        merged[group] = _typed_option(group, raw.get(group))
    return merged


def _typed_option(group: str, raw: Any) -> DictConfig:
    name = raw.get("name") if isinstance(raw, dict) else None
    options = registry.groups().get(group, {})
    if name not in options:
        raise UserError(
            f"the run's config has {group}={name}, which this grow does not know (it knows "
            f"{', '.join(sorted(options))}): use the version, and the plugins, that the run was made with"
        )
    values = dict(raw)
    nested = values.pop("of", None)  # a combined trigger's parts
    option = OmegaConf.merge(OmegaConf.structured(options[name]), values)
    assert isinstance(option, DictConfig)
    if nested is not None:
        for key, part in nested.items():
            option["of"][key] = _typed_option(group, part)
    return option
