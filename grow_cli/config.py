"""The root of a run's configuration: every key that is not in a config group, with its meaning, range and role."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import registry
from grow_cli.clusters import OnClusters
from grow_cli.errors import UserError, check
from grow_cli.files import cache_folder, expanded
from grow_cli.keys import check_ranges, key


@dataclass
class Section:
    """Base of the parts of the configuration that are no options; each is named like its class."""

    def __post_init__(self) -> None:
        check_ranges(self, f"{type(self).__name__.lower()}.")


_NO_RULE: dict[str, Any] = {"above": 0, "null": "for no such rule"}


@dataclass
class Stop(Section):
    """The run ends as soon as one of these is reached; epochs, steps, seconds or flops must be given (they are the budget)."""

    BUDGETS: ClassVar[tuple[str, ...]] = ("epochs", "steps", "seconds", "flops")

    epochs: int | None = key(100, **_NO_RULE)
    """Passes over the training split."""
    steps: int | None = key(None, **_NO_RULE)
    """Optimizer steps."""
    seconds: float | None = key(None, **_NO_RULE)
    """Wall time of training and growth, without evaluation."""
    flops: float | None = key(None, **_NO_RULE)
    """Training FLOPs, growth included."""
    parameters: int | None = key(None, **_NO_RULE)
    """Trainable parameters."""
    growth_events: int | None = key(None, **_NO_RULE)
    """Growth events that added something."""
    plateau: int | None = key(None, **_NO_RULE)
    """Evaluations without a better validation loss."""
    val_score: float | None = key(None, **_NO_RULE)
    """Validation accuracy, from 0 to 1 (for regression R²; for text bits per byte, which fall to it)."""
    train_score: float | None = key(None, **_NO_RULE)
    """The same on the whole training split, which is then also measured at every evaluation (`whole_train_accuracy`),
    without augmentation and dropout. Like all evaluation, this counts in neither `seconds` nor `flops`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            any(getattr(self, name) is not None for name in self.BUDGETS),
            "stop.epochs, stop.steps, stop.seconds and stop.flops are all null: give one of them as the run's budget",
        )


@dataclass
class Growth(Section):
    """When growing is allowed, for every trigger and method."""

    until: float = key(0.6, at_least=0, at_most=1, why="it is a fraction of the budget")
    """Fraction of the budget after which growth stops and the `anneal` schedule lowers the rate to zero."""
    max_events: int | None = key(None, at_least=0, null="for no limit")
    """Growth stops after this many events that added something."""
    plateau: int | None = key(None, at_least=1, null="for no limit")
    """Growth stops when this many events in a row did not improve the validation score. The last one is judged at the
    evaluation at which the trigger fires again."""
    max_parameters: int | None = key(None, at_least=0, null="for no limit")
    """Growth stops once the net has this many parameters."""
    max_flops_per_sample: int | None = key(None, at_least=0, null="for no limit")
    """Growth stops once a forward pass of one sample takes this many FLOPs. The last new layer or block may exceed it."""
    neurons: int | None = key(10, at_least=1, null="for as many as the consumer has outputs")
    """Width growth: the most new units per hidden layer and event. null: as many as its consumer has outputs, or its
    fan-in if that is less; with method=senn as many as its thresholds let pass."""
    max_units: list[int] | None = key(
        None, at_least=1, null="for no limit", why="one width for all, or one for each layer"
    )
    """Width at which a hidden layer stops growing: one number for all, or one for each; null: no limit."""
    max_total_units: int | None = key(None, at_least=0, null="for no limit")
    """The most hidden units in the whole net, new layers included; null: no limit."""
    rollback: bool = False
    """Undo a growth if the validation score (if equal, the loss) has not improved when the trigger fires again. Weights
    and optimizer are restored; its steps and FLOPs still count, the order of the data and the schedule continue, and it
    counts as an event. The last growth before the end of the run stays."""
    optimizer_state: str = key("carry", one_of=("carry", "age", "reset"))
    """`carry`: old entries keep their moments through growth, new ones start at zero; `age`: the same, and Adam's bias
    correction uses the age of each entry (with `carry` the first steps of new entries are longer the later they are
    added); `reset`: all moments are dropped."""
    lr_factor: float = key(1, above=0)
    """Learning rate of added parameters, as a multiple of that of all others."""
    lr_warmup: int = key(0, at_least=0, unit="steps")
    """Steps over which the learning rate of added parameters rises to that; all others keep theirs (`schedule.warmup`
    warms up everything)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.max_units != [], "growth.max_units=[]: give one width for all, or one for each hidden layer, or null"
        )


@dataclass
class Evaluate(Section):
    """When the net is measured, the trigger is read and a row of metrics is written."""

    every: float = key(1, above=0)
    """Distance between evaluations, in `unit`."""
    unit: str = key("epochs", one_of=("steps", "epochs"))
    """`steps` or `epochs`."""
    batch_size: int = key(2000, at_least=1, role="speed")
    """Samples per evaluation batch (for text, bytes). It affects memory, not results."""
    probe: int = key(512, at_least=1)
    """Samples in the fixed batch on which every growth event is measured."""
    test_every: int | None = key(None, at_least=1, null="for once at the end")
    """Also measure the test set at every n-th evaluation; never select anything on it."""

    def distance(self, steps_per_epoch: float) -> float:
        """Steps between evaluations as configured; `steps` are whole steps."""
        return self.every * (steps_per_epoch if self.unit == "epochs" else 1)

    def steps(self, steps_per_epoch: float) -> int:
        """Whole steps from one evaluation to the next."""
        return max(1, round(self.distance(steps_per_epoch)))


@dataclass
class Trajectory(Section):
    """The history of the frontier layer's weights (Alether, Def. 2), for triggers and methods that read it."""

    window: int = key(20, at_least=3, why="an acceleration needs 3 snapshots")
    """S: snapshots kept."""
    every: int = key(10, at_least=1, unit="step")
    """Δ_collect: steps between snapshots."""
    dtype: str = key("float32", one_of=("float32", "float16", "int8"))
    """`float32`, `float16` or `int8`: how the differences between snapshots are stored."""
    storage: str = key("device", one_of=("device", "cpu", "file"))
    """`device`, `cpu`, or `file` (memory-mapped, in the run folder)."""
    sampling: str = key("uniform", one_of=("uniform", "adaptive"))
    """`uniform`, or `adaptive` (Remark 20: every Δ, 4Δ and 20Δ steps for recent, medium and old snapshots)."""
    smoothing: float = key(0.0, at_least=0, below=1)
    """Decay per step of a moving average of the weights, of which snapshots are taken; 0: of the weights themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.sampling == "uniform" or self.window >= 6,
            f"trajectory.window={self.window}: trajectory.sampling=adaptive needs 6 snapshots or more",
        )


@dataclass
class Checkpoint(Section):
    """When checkpoints are written, and which are kept."""

    every: int = key(1, at_least=1)
    """Evaluations between checkpoints. One is always written before growth, at the best validation and at the end."""
    events: bool = False
    """Keep the net from before each growth event, for pictures: checkpoints/before-<event>.pt."""


@dataclass
class Sweep(OnClusters, Section):
    """How the jobs of a sweep (-m) are run; a single run ignores it."""

    engine: str = key("in_turn", one_of=("in_turn", "local", "slurm", "ray"))
    """`in_turn`: one after the other in this process (or as Hydra's launcher has it); `local`: side by side in processes;
    `slurm`: as a job array of Slurm; `ray`: on the nodes of a Ray cluster."""
    jobs: int | None = key(None, at_least=1, at_most=1024, null="for as many as there is room for")
    """How many at once; null: of `local` one for each GPU slot, else for each processor, elsewhere as the cluster has room."""
    slots_per_gpu: int = key(1, at_least=1, at_most=64)
    """Of `local` and `ray`: how many share a GPU."""
    retries: int = key(2, at_least=0, at_most=100)
    """How often a job that crashed, or whose process, worker or node was lost, is continued."""


@dataclass
class Config:
    """A run. `grow train KEY=VALUE ...` sets any of these."""

    dataset: Any = MISSING
    model: Any = MISSING
    method: Any = MISSING
    trigger: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    logger: Any = key(MISSING, role="shown")
    seed: int = key(0, at_least=0, at_most=2**63 - 1)
    """Seed of data order, initialization and growth, each with its own random stream."""
    data_dir: str | None = key(None, role="place", path=True)
    """Folder in which datasets are looked up, and to which they are downloaded; null: $GROW_DATA_DIR, else ~/.cache/grow."""
    subset: int | float | None = None
    """Train on a class-balanced part: a count (1000) or a fraction (0.1) of the training samples."""
    label: str | None = key(None, role="name")
    """What the run is called in comparisons; null: its method."""
    control: str | None = key(None, role="name")
    """Which control of another run this is (`static-flops`, ...); set by `grow controls`."""
    init: str | None = key(None, path=True)
    """A run from whose last net this one starts, or the file of another net (RUN/checkpoints/best.pt, before-3.pt). It
    gives architecture, weights and normalisation; everything else starts fresh. null: a new net."""
    tuned: dict[str, Any] | None = key(make=dict, role="name")
    """Cost of the search for this run's values: trials, seeds, FLOPs, and the space; set by the files of `grow tune`."""
    run_dir: str | None = key(None, role="folder")
    """The run's folder (the sweep's, with -m); null: outputs/<dataset>/<method>/<time>-<id>."""
    device: str = key("auto", role="place")
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str = key("fp32", one_of=("fp32", "tf32", "bf16", "fp64"))
    """fp32, tf32 (matrix products of fp32 tensors), bf16 (autocast), or fp64 (regression only: weights, data, statistics)."""
    threads: int | None = key(None, at_least=1, at_most=1024, null="for grow's own choice", role="speed")
    """CPU threads of torch; null: one for small nets (more slow them down on a shared machine), else torch's choice."""
    compile: bool = key(False, role="speed")
    """Compile the training step with torch.compile, at the start and after each growth; `seconds` leaves that time out."""
    graph: str = key("auto", one_of=("auto", "always", "never"), role="speed")
    """Replay the training step as one CUDA graph: auto (on a GPU, where the step allows it), always (else an error), never."""
    deterministic: bool = key(False, role="speed")
    """Bit-identical results on a GPU as well: slower, and an operation that cannot give them ends the run."""
    batch_size: int = key(32, at_least=1)
    """Training samples per step."""
    label_smoothing: float = key(0.0, at_least=0, below=1)
    """Part of each target that is spread over all classes."""
    clip_norm: float | None = key(None, above=0, null="for no clipping")
    """Largest norm of the whole gradient; null: no clipping."""
    progress: str = key("auto", one_of=("auto", "live", "lines", "off"), role="shown")
    """auto (a live display on a terminal, a line now and then elsewhere), live, lines, or off."""
    stop: Stop = key(make=Stop)
    growth: Growth = key(make=Growth)
    evaluate: Evaluate = key(make=Evaluate)
    trajectory: Trajectory = key(make=Trajectory)
    checkpoint: Checkpoint = key(make=Checkpoint, role="shown")
    sweep: Sweep = key(make=Sweep, role="shown")

    def __post_init__(self) -> None:
        check_ranges(self, "")
        if not getattr(self.dataset, "language", False):
            for name in ("val_score", "train_score"):
                value = getattr(self.stop, name)
                check(
                    value is None or value <= 1,
                    f"stop.{name}={value}: must be above 0 and at most 1, or null for no such rule; it is a fraction, 0.97 "
                    "for 97 %",
                )
        kind, _, index = self.device.partition(":")
        check(
            kind in ("auto", "cpu", "cuda", "mps") and (not index or (kind == "cuda" and index.isdigit())),
            f"device={self.device}: must be auto, cpu, cuda, cuda:<number> or mps",
        )
        if self.subset is not None:
            check(
                0 < self.subset <= 1 if isinstance(self.subset, float) else self.subset >= 1,
                f"subset={self.subset}: a count of 1 or more, or a fraction above 0 and up to 1.0",
            )

    @property
    def data_folder(self) -> Path:
        """Where datasets are, the default resolved."""
        return expanded(self.data_dir or os.environ.get("GROW_DATA_DIR") or cache_folder() / "grow")

    @property
    def parts(self) -> list[registry.Option]:
        """The chosen options, a combined one's own parts left out."""
        return [getattr(self, group) for group in GROUP_KEYS]


def check_run(config: Config) -> list[str]:
    """UserError for a combination of parts that cannot be; warnings otherwise. Before any data is loaded."""
    _check_precision(config)
    return [sentence for part in config.parts for sentence in part.check_run(config)]


def _check_precision(config: Config) -> None:
    if config.precision != "fp64":
        return
    if config.dataset.language:
        raise UserError(
            f"precision=fp64 is for regression, and dataset={config.dataset.name} is text: set precision=fp32"
        )
    for part in (config.method, config.trigger):
        if part.needs_trajectory:
            raise UserError(
                f"precision=fp64: {part.group_name}={part.name} reads the weights' trajectory, which is kept in float32: set "
                f"precision=fp32, or choose another {part.group_name}"
            )


_told: dict[tuple[str, str], type] = {}
"""Group and name → the dataclass that Hydra knows for it."""


def register_schemas() -> None:
    """Tell Hydra every option's schema, as the group `schema`: it then refuses unknown keys and wrong types."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="run", node=Config)
    for group, options in registry.groups().items():
        for name, cls in options.items():
            if _told.get((group, name)) is not cls:  # it takes a fifth of what composing takes
                store.store(group=f"schema/{group}", name=name, node=cls(name=name))
                _told[group, name] = cls


def build(raw: DictConfig) -> Config:
    """The composed config as typed, range-checked objects; UserError naming key, value and what is allowed."""
    _refuse_unknown_keys(raw, "")
    try:
        config = OmegaConf.to_object(raw)
    except OmegaConfBaseException as error:  # several lines, of which the first says it
        key = f"{error.full_key}: " if error.full_key else ""
        raise UserError(f"{key}{str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    assert isinstance(config, Config)
    return config


def _refuse_unknown_keys(node: DictConfig, prefix: str) -> None:
    # Hydra lets `+foo=1` through even where the node has a schema
    cls: Any = OmegaConf.get_type(node)
    known = {f.name for f in fields(cls)} if is_dataclass(cls) else None
    for name in map(str, node):
        if known is not None and name not in known:
            raise UserError(f"{prefix}{name} is not a key of the configuration: `grow train --cfg job` shows all keys")
        if OmegaConf.is_missing(node, name):
            continue
        child = node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            _refuse_unknown_keys(child, f"{prefix}{name}.")


GROUP_KEYS = ("dataset", "model", "method", "trigger", "optimizer", "schedule", "logger")
