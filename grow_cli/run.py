"""One run, from its config to its folder."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from grow_cli.config import Config
from grow_cli.console import warn
from grow_cli.data.identity import Trained
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import Crashed, Interrupted, Paused, TrainingFailed, UserError
from grow_cli.loggers.base import Logger
from grow_cli.models.base import on_paper, rebuild, restored
from grow_cli.models.modules.network import GrowableModel
from grow_cli.moment import Progress
from grow_cli.records import provenance
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import widths_text
from grow_cli.surgery.flops import flops_per_sample
from grow_cli.surgery.measure import count_parameters
from grow_cli.surgery.optimizer import follow_new_entries
from grow_cli.tasks import TASKS
from grow_cli.theory.history import History
from grow_cli.training import checkpoint
from grow_cli.training.device import (
    check_precision,
    choose_device,
    choose_threads,
    deterministic,
    dtype_of,
    flush_denormals,
    keep_memory,
    reset_threads,
    set_precision,
)
from grow_cli.training.display import Display, make_display
from grow_cli.training.evaluation import SPLITS, measure_splits
from grow_cli.training.loop import Loop
from grow_cli.training.memory import enough_memory, refuse_too_large
from grow_cli.training.ranks import ALONE, Ranks, refuse_built
from grow_cli.training.session import Session
from grow_cli.training.start import check_start
from grow_cli.training.streams import Streams
from grow_cli.training.together import SharedLoop


def train(
    config: Config,
    folder: RunFolder,
    *,
    resume: bool = False,
    trained: Trained | None = None,
    splits: Sequence[str] = SPLITS,
    pause_at: float = math.inf,
    hopeless: Callable[[int, float], bool] | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train into a claimed folder (from its checkpoint if `resume`) and return the summary, which is written there too.

    `trained`, of another run: the data must be the same as its. `splits`: those that the trained net is measured on.
    `pause_at`: raises Paused after the first evaluation at which this many FLOPs are spent; a resumed run continues unchanged.
    `hopeless`: called after each evaluation with their number and the best validation score (more is better); True ends the run.
    `ranks`: of this process among those that train the run together; the others than the first return nothing.
    Interrupted, crashed and failed runs raise; their summary has that status, and the last good checkpoint stays.
    """
    state = checkpoint.load(folder.checkpoints / "last.pt") if resume else None
    if ranks.world > 1:
        state = ranks.told(state)
    if state is None:
        with enough_memory("the net was built", "lower the model's size"):
            net = on_paper(config.model)
        if net is not None:  # before data are loaded
            config.method.check(net)
    begun_with = checkpoint.read(Path(config.init)) if state is None and config.init else None
    if begun_with is not None:
        trained = Trained.of(begun_with, begins=True)
    with deterministic(config.deterministic):
        device, data = _device_and_data(config, trained if state is None else Trained.of(state))
        provenance.reset_peak_memory(device)
        with _writing(folder):
            with enough_memory("the net was built", "lower the model's size"):
                loop = assemble(config, folder, data, device, state, begun_with, ranks)
            loop.pause_at, loop.hopeless = pause_at, hopeless or loop.hopeless
            try:
                with _end_noted(config, folder, device):
                    summary = _trained(loop, data, splits) if ranks.first else _followed(loop)
                loop.logger.summary(summary)
            finally:
                loop.close()
    return summary


def _trained(loop: Loop, data: Data, splits: Sequence[str]) -> dict[str, Any]:
    """Train to the end, measure, and write the summary."""
    session, folder, config = loop.session, loop.folder, loop.session.config
    with session.interrupted.watching(), enough_memory("it trained", "lower batch_size or the model's size"):
        ended = loop.train()
    own = session.method.conclude(session.moment())
    session.method.keep(session.moment(), folder.path)
    loop.save(best=False)
    # once training is over: the only time the test set is read
    with enough_memory(
        "the trained net was measured",
        f"`grow resume {folder.path} evaluate.batch_size={max(1, config.evaluate.batch_size // 4)}` measures it again",
    ):
        measured = measure_splits(session.model, data, config, splits)
    summary = _summary(config, session.model, session.progress, folder, session.device, "finished")
    summary |= {"data": data.identity, "ended_by": str(ended), "ended": vars(ended), "thresholds": loop.thresholds}
    summary |= own | measured
    folder.write_summary(summary)
    return summary


def _followed(loop: Loop) -> dict[str, Any]:
    """Train along; what is measured in the end, and written, is rank 0's."""
    with loop.session.interrupted.watching(), enough_memory("it trained", "lower batch_size or the model's size"):
        loop.train()
    return {}


def assemble(
    config: Config,
    folder: RunFolder,
    data: Data,
    device: torch.device,
    state: dict[str, Any] | None = None,
    begun_with: dict[str, Any] | None = None,
    ranks: Ranks = ALONE,
) -> Loop:
    """Every part of a run, from its config; from a checkpoint's state if there is one, or from what rank 0 tells.

    :param begun_with: another run's checkpoint, whose net a new run begins with
    """
    if not ranks.first:
        state = ranks.told()
    session = _session(config, folder, data, device, state or begun_with, state is None)
    names = [part.name for part in (config.dataset, config.model, config.method, config.trigger)]
    display, logger = Display(), Logger()
    if ranks.first:
        display = make_display(config.progress, " · ".join(names), folder.path, config.trigger.falling)
        logger = config.logger.build(folder.path)
    if ranks.world > 1:
        refuse_built(session, ranks.world)
        loop: Loop = SharedLoop(
            session, folder, display, logger, ranks, lambda told: _session(config, folder, data, device, told, False)
        )
    else:
        loop = Loop(session, folder, display, logger)
    progress = session.progress
    if state is None:
        check_start(loop)
        progress.threads = choose_threads(config.threads, device, loop.flops * session.batches.batch_size)
        loop.watch_frontier()
    else:
        loop.restore(state)
        if ranks.first:
            folder.trim(rows=progress.evaluations, lines=progress.firings)
            logger.resume(rows=progress.evaluations, events=progress.firings)
    if isinstance(loop, SharedLoop) and ranks.first:
        ranks.told(loop.state())
    torch.set_num_threads(progress.threads)
    return loop


def _session(
    config: Config, folder: RunFolder, data: Data, device: torch.device, saved: dict[str, Any] | None, new: bool
) -> Session:
    """:param saved: a checkpoint that has the net; `new`: the run begins with it"""
    streams = Streams(config.seed, device)
    if saved is None:
        with torch.device("meta"):
            refuse_too_large(config.model.build(data.spec), device)
    with streams.using("initialization"):
        model = config.model.build(data.spec) if saved is None else rebuild(saved["architecture"])
    model.to(dtype_of(config.precision))
    if saved is not None and new:  # before its method looks at it
        model.load_state_dict(saved["model"])
    model.to(device).train()
    task = TASKS[data.spec.task]
    if config.label_smoothing and task.name != "classification":
        raise UserError(f"label_smoothing={config.label_smoothing} needs classes, and {config.dataset.name} has none")
    for sentence in config.method.check(model):
        warn(sentence)
    session = Session(
        config=config,
        device=device,
        data=data,
        model=model,
        method=config.method.build(model),
        trigger=config.trigger.begin(),
        optimizer=config.optimizer.build(model),
        batches=data.batches(config.batch_size, streams["data"]),
        streams=streams,
        loss=task.loss(config.label_smoothing),
    )
    growth = config.growth
    if growth.optimizer_state == "age" or growth.lr_factor != 1 or growth.lr_warmup:
        follow_new_entries(session.optimizer, growth.lr_warmup)
    if session.method.needs_trajectory or session.trigger.needs_trajectory:
        t = config.trajectory
        file = folder.path / "trajectory.bin" if t.storage == "file" else None
        storage = "cpu" if device.type == "mps" and t.storage == "device" else t.storage  # MPS has no float64
        session.history = History(t.window, t.dtype, storage, file, sampling=t.sampling, smoothing=t.smoothing)
    return session


def evaluate(
    config: Config, folder: RunFolder, which: str, *, other: bool = False, splits: Sequence[str] = SPLITS
) -> dict[str, Any]:
    """Rebuild the net of a checkpoint (`last` or `best`), as far as it has grown, and measure it on every split.

    `other`: of other data than it was trained on, on purpose.
    """
    state = checkpoint.load(folder.checkpoints / f"{which}.pt")
    with deterministic(config.deterministic):
        device, data = _device_and_data(config, Trained.of(state, other=other))
        torch.set_num_threads(config.threads or state["progress"]["threads"])
        model = restored(state["architecture"], state["model"]).to(device)
        if "inputs" not in state:
            warn(
                "this run's checkpoints, written by an older version of grow, do not store how inputs are normalised: the "
                "normalisation is computed from the data read now"
            )
        return {
            "run": str(folder.path),
            "checkpoint": which,
            "step": state["progress"]["step"],
            **measure_splits(model, data, config, splits),
            "parameters": count_parameters(model),
            "widths": widths_text(model.widths()),
        }


def _device_and_data(config: Config, trained: Trained | None) -> tuple[torch.device, Data]:
    """The device, set up as the config asks, and the dataset on it: the one that a net was `trained` on, if there is one."""
    device = choose_device(config.device)
    check_precision(config.precision, device)
    set_precision(config.precision)
    keep_memory()
    flush_denormals()
    reset_threads()
    dataset = config.dataset
    if dataset.scale is None and not config.model.bounds_inputs:
        dataset = replace(dataset, scale=1.0)
    with enough_memory("the data were read", "use fewer samples (subset=10000), or a device with more memory"):
        data = load_data(
            dataset,
            data_dir=config.data_folder,
            subset=config.subset,
            device=device,
            trained=trained,
            seed=config.seed,
            dtype=dtype_of(config.precision),
        )
    return device, data


@contextlib.contextmanager
def _writing(folder: RunFolder) -> Iterator[None]:
    """Crashed where the run folder cannot be written."""
    try:
        yield
    except OSError as error:
        go_on = f"continue with `grow resume {folder.path}`" if folder.begun else "train again"
        raise Crashed(
            f"{folder.path} cannot be written ({error.strerror or error}): free some space, and {go_on}"
        ) from error


@contextlib.contextmanager
def _end_noted(config: Config, folder: RunFolder, device: torch.device) -> Iterator[None]:
    """Where training did not finish, a summary of what its last checkpoint holds, for the net may be half-grown."""
    try:
        yield
    except (Exception, Interrupted, KeyboardInterrupt) as error:
        with contextlib.suppress(Exception):  # what ended the run may be that nothing can be written, or built
            state = checkpoint.load(folder.checkpoints / "last.pt")
            progress = Progress()
            progress.load_state_dict(state["progress"])
            summary = _summary(config, rebuild(state["architecture"]), progress, folder, device, _status_after(error))
            folder.write_summary(summary | {"data": state.get("data"), "error": str(error)})
        raise


def _status_after(error: BaseException) -> str:
    if isinstance(error, Interrupted | KeyboardInterrupt | Paused):
        return "interrupted"
    return "failed" if isinstance(error, TrainingFailed) and not isinstance(error, Crashed) else "crashed"


def _summary(
    config: Config, model: GrowableModel, progress: Progress, folder: RunFolder, device: torch.device, status: str
) -> dict[str, Any]:
    task = TASKS[model.task]
    return {
        "status": status,
        "dataset": config.dataset.name,
        "model": config.model.name,
        "method": config.method.name,
        "trigger": config.trigger.name,
        "seed": config.seed,
        "label": config.label,
        "control": config.control,
        "overrides": folder.overrides(),
        f"best_{task.column('val')}": task.direction * progress.best_val_score,
        "best_step": progress.best_step,
        "steps": progress.step,
        "growth_steps": progress.growth_steps,
        "epochs": progress.epoch,
        "events": progress.events,
        "undone": progress.undone,
        "architecture": model.architecture(),
        "widths": widths_text(model.widths()),
        "parameters": count_parameters(model),
        "flops_per_sample": flops_per_sample(model, model.input_shape),
        "training_flops": progress.flops,
        "growth_flops": progress.growth_flops,
        "seconds": progress.seconds,
        "growth_seconds": progress.growth_seconds,
        "compile_seconds": progress.compile_seconds,
        "peak_memory_bytes": provenance.peak_memory_bytes(device),
        "device": provenance.device_name(device),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }
