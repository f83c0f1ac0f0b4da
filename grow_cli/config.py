"""The root of a run's configuration: every key that is not in a config group, with its meaning, range and role."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import registry
from grow_cli.errors import UserError, check
from grow_cli.files import cache_folder, expanded
from grow_cli.keys import check_ranges, key


@dataclass
class Section:
    """Base of the parts of the configuration that are no options."""

    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_ranges(self, self.prefix)


_NO_RULE: dict[str, Any] = {"above": 0, "null": "for no such rule"}


@dataclass
class Stop(Section):
    """The run ends as soon as one of these is reached; epochs, steps, seconds or flops must be given (they are the budget)."""

    prefix: ClassVar[str] = "stop."
    BUDGETS: ClassVar[tuple[str, ...]] = ("epochs", "steps", "seconds", "flops")

    epochs: int | None = key(100, **_NO_RULE)
    """Passes over the training split."""
    steps: int | None = key(None, **_NO_RULE)
    """Optimizer steps."""
    seconds: float | None = key(None, **_NO_RULE)
    """Wall time of training and growth, evaluation left out."""
    flops: float | None = key(None, **_NO_RULE)
    """Training FLOPs, those of growth included."""
    parameters: int | None = key(None, **_NO_RULE)
    """Trainable scalars."""
    growth_events: int | None = key(None, **_NO_RULE)
    """Growth events that added something."""
    plateau: int | None = key(None, **_NO_RULE)
    """Evaluations without a better validation loss."""
    val_score: float | None = key(None, **_NO_RULE)
    """Validation accuracy, from 0 to 1 (R² for regression; bits per byte for text, which come down to it)."""
    train_score: float | None = key(None, **_NO_RULE)
    """The same of the whole training split, which is then measured at every evaluation, too (`whole_train_accuracy`), without
    augmentation and dropout; like all evaluation that counts in neither `seconds` nor `flops`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            any(getattr(self, name) is not None for name in self.BUDGETS),
            "stop.epochs, stop.steps, stop.seconds and stop.flops are all null: give one of them, it is the run's budget",
        )


@dataclass
class Growth(Section):
    """When growing is allowed at all, whatever trigger and method."""

    prefix: ClassVar[str] = "growth."

    until: float = key(0.6, at_least=0, at_most=1, why="it is a fraction of the budget")
    """Fraction of the budget after which nothing grows any more and the `anneal` schedule runs the rate to zero."""
    max_events: int | None = key(None, at_least=0, null="for no limit")
    """No more growth after so many events that added something."""
    plateau: int | None = key(None, at_least=1, null="for no limit")
    """No more growth while the last so many events have brought no better validation score: the last of them is judged at
    the evaluation at which the trigger fires again."""
    max_parameters: int | None = key(None, at_least=0, null="for no limit")
    """No more growth once the net has so many parameters."""
    max_flops_per_sample: int | None = key(None, at_least=0, null="for no limit")
    """No more growth once a forward pass of one sample takes so many FLOPs; one new layer, or block, may end above it."""
    neurons: int | None = key(10, at_least=1, null="for as many as the consumer has outputs")
    """Width: most new units per hidden layer and event; null: as many as its consumer has outputs, or the fan-in if less."""
    max_units: list[int] | None = key(
        None, at_least=1, null="for no limit", why="one width for all, or one for each layer"
    )
    """Width at which a hidden layer stops growing: one number for all, or one for each; null: no limit."""
    max_total_units: int | None = key(None, at_least=0, null="for no limit")
    """No more hidden units than so many in the whole net, those of new layers included; null: no limit."""
    rollback: bool = False
    """Undo a growth after which the validation score (where equal, the loss) is no better when the trigger fires again:
    weights and optimizer go back; steps, FLOPs, the data's order and the schedule do not, and it counts as an event all the
    same. The last one before the end of the run stays."""
    optimizer_state: str = key("carry", one_of=("carry", "age", "reset"))
    """`carry`: the moments of old entries survive growth, new ones start at zero; `age`: so they do, and Adam corrects the new
    ones for their own age, where with `carry` their first steps are longer the later they come; `reset`: all are forgotten."""
    lr_factor: float = key(1, above=0)
    """Rate of what is added, as a multiple of the others', from then on."""
    lr_warmup: int = key(0, at_least=0, unit="steps")
    """Steps over which the rate of what is added rises to that, the others' untouched (`schedule.warmup` is everything's)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.max_units != [], "growth.max_units=[]: give one width for all, or one for each hidden layer, or null"
        )


@dataclass
class Evaluate(Section):
    """When the net is measured, the trigger asked and a row of metrics written."""

    prefix: ClassVar[str] = "evaluate."

    every: float = key(1, above=0)
    """Distance between evaluations, in `unit`."""
    unit: str = key("epochs", one_of=("steps", "epochs"))
    """`steps` or `epochs`."""
    batch_size: int = key(2000, at_least=1, role="speed")
    """Samples per evaluation batch, of text bytes (memory, not results, depends on it)."""
    probe: int = key(512, at_least=1)
    """Samples in the fixed batch on which every growth event is measured."""
    test_every: int | None = key(None, at_least=1, null="for once at the end")
    """Also read the test set at every so many evaluations; nothing may then be selected on it."""

    def distance(self, steps_per_epoch: float) -> float:
        """Steps between evaluations as they are meant; `steps` are those that there are."""
        return self.every * (steps_per_epoch if self.unit == "epochs" else 1)

    def steps(self, steps_per_epoch: float) -> int:
        """Whole steps from one evaluation to the next."""
        return max(1, round(self.distance(steps_per_epoch)))


@dataclass
class Trajectory(Section):
    """The history of the frontier layer's weights (Alether, Def. 2), for triggers and methods that read it."""

    prefix: ClassVar[str] = "trajectory."

    window: int = key(20, at_least=3, why="an acceleration needs 3 snapshots")
    """S: snapshots held."""
    every: int = key(10, at_least=1, unit="step")
    """Δ_collect: steps between snapshots."""
    dtype: str = key("float32", one_of=("float32", "float16", "int8"))
    """`float32`, `float16` or `int8`: how the differences between snapshots are stored."""
    storage: str = key("device", one_of=("device", "cpu", "file"))
    """`device`, `cpu`, or `file` (memory-mapped, in the run folder)."""
    sampling: str = key("uniform", one_of=("uniform", "adaptive"))
    """`uniform`, or `adaptive` (Remark 20: every Δ, 4Δ and 20Δ steps for recent, medium and old snapshots)."""
    smoothing: float = key(0.0, at_least=0, below=1)
    """Decay per step of a moving average of the weights, of which the snapshots are then taken; 0: of the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.sampling == "uniform" or self.window >= 6,
            f"trajectory.window={self.window}: trajectory.sampling=adaptive needs 6 snapshots or more",
        )


@dataclass
class Checkpoint(Section):
    """What survives a kill."""

    prefix: ClassVar[str] = "checkpoint."

    every: int = key(1, at_least=1)
    """Evaluations between checkpoints; before growth, at the best validation and at the end there is always one."""
    events: bool = False
    """Keep the net as it was before each growth event, for pictures: checkpoints/before-<event>.pt."""


@dataclass
class Sweep(Section):
    """How the jobs of a sweep (-m) are run; of a single run it says nothing."""

    prefix: ClassVar[str] = "sweep."

    engine: str = key("in_turn", one_of=("in_turn", "local"))
    """`in_turn`: one after the other in this process (or as Hydra's launcher has it); `local`: side by side in processes."""
    jobs: int | None = key(None, at_least=1, at_most=1024, null="for as many as there are GPU slots, else processors")
    """Of `local`: how many at once."""
    slots_per_gpu: int = key(1, at_least=1, at_most=64)
    """Of `local`: how many share a GPU."""
    retries: int = key(2, at_least=0, at_most=100)
    """Of `local`: how often a job that crashed, or whose process was killed, goes on again."""


@dataclass
class Config(Section):
    """A run. `grow train KEY=VALUE ...` sets any of these."""

    dataset: Any = MISSING
    model: Any = MISSING
    method: Any = MISSING
    trigger: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    logger: Any = key(MISSING, role="shown")
    seed: int = key(0, at_least=0, at_most=2**63 - 1)
    """Of data order, initialization and growth, each of which has a random stream of its own."""
    data_dir: str | None = key(None, role="place", path=True)
    """Where datasets are looked for and downloaded to; null: $GROW_DATA_DIR, else ~/.cache/grow."""
    subset: int | float | None = None
    """Train on a class-balanced part: a count (1000) or a fraction (0.1) of the training samples."""
    label: str | None = key(None, role="name")
    """What the run is called in comparisons; null: its method."""
    control: str | None = key(None, role="name")
    """Which control of the run that it lies in it is (`static-flops`, ...); set by `grow controls`."""
    init: str | None = key(None, path=True)
    """A run whose last net this one begins with, or the file of any net of it (RUN/checkpoints/best.pt, before-3.pt): its
    architecture, weights and normalisation; everything else begins anew. null: a new net."""
    tuned: dict[str, Any] | None = key(None, role="name")
    """What the search for its values cost: trials, seeds, FLOPs, and which space; set by the files of `grow tune`."""
    run_dir: str | None = key(None, role="folder")
    """The run's folder (the sweep's, with -m); null: outputs/<dataset>/<method>/<time>-<id>."""
    device: str = key("auto", role="place")
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str = key("fp32", one_of=("fp32", "tf32", "bf16", "fp64"))
    """fp32, tf32 (matrix products of fp32 tensors), bf16 (autocast), or fp64 (regression only: weights, data, statistics)."""
    threads: int | None = key(None, at_least=1, at_most=1024, null="for grow's own choice", role="speed")
    """CPU threads of torch; null: one for small nets (more slow them down on a shared machine), else torch's choice."""
    compile: bool = key(False, role="speed")
    """torch.compile the training step."""
    deterministic: bool = key(False, role="speed")
    """The same bits each time on one GPU, too: slower, and an operation that has no such form ends the run."""
    batch_size: int = key(32, at_least=1)
    """Training samples per step."""
    label_smoothing: float = key(0.0, at_least=0, below=1)
    """Part of each target that is shared out among all classes."""
    clip_norm: float | None = key(None, above=0, null="for no clipping")
    """Largest norm of the gradient, over all parameters; null: not clipped."""
    progress: str = key("auto", one_of=("auto", "live", "lines", "off"), role="shown")
    """auto (a live display on a terminal, a line now and then elsewhere), live, lines, or off."""
    stop: Stop = key(make=Stop)
    growth: Growth = key(make=Growth)
    evaluate: Evaluate = key(make=Evaluate)
    trajectory: Trajectory = key(make=Trajectory)
    checkpoint: Checkpoint = key(make=Checkpoint, role="shown")
    sweep: Sweep = key(make=Sweep, role="shown")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not getattr(self.dataset, "language", False):
            for name in ("val_score", "train_score"):
                value = getattr(self.stop, name)
                check(
                    value is None or value <= 1,
                    f"stop.{name}={value}: must be above 0 and at most 1, or null for no such rule: a fraction, 0.97 for 97 %",
                )
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
            raise UserError(
                f"{prefix}{name} is not a key of the configuration: see `grow train --cfg job` for those that are"
            )
        if OmegaConf.is_missing(node, name):
            continue
        child = node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            _refuse_unknown_keys(child, f"{prefix}{name}.")


GROUP_KEYS = ("dataset", "model", "method", "trigger", "optimizer", "schedule", "logger")
