"""One run, from its config to its folder."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch

from grow_cli.config import Config
from grow_cli.console import warn
from grow_cli.data.batches import Batches
from grow_cli.data.tensors import Data, load_data
from grow_cli.errors import Interrupted, TrainingFailed, UserError
from grow_cli.models.base import rebuild
from grow_cli.models.modules.network import GrowableModel
from grow_cli.recording import provenance
from grow_cli.recording.display import make_display
from grow_cli.recording.folder import RunFolder
from grow_cli.surgery.flops import flops_per_sample
from grow_cli.theory.history import History
from grow_cli.training import checkpoint
from grow_cli.training.device import (
    choose_device,
    choose_threads,
    flush_denormals,
    keep_memory,
    reset_threads,
    set_precision,
)
from grow_cli.training.evaluation import measure_splits
from grow_cli.training.gathering import score_name
from grow_cli.training.growth import count_parameters, growth_closed, score_now, widths_text
from grow_cli.training.loop import Loop
from grow_cli.training.state import Progress, Run
from grow_cli.training.step import loss_function
from grow_cli.training.streams import Streams


def train(config: Config, folder: RunFolder, *, resume: bool = False) -> dict[str, Any]:
    """Train into a claimed folder (from its checkpoint if `resume`) and return the summary, which is written there too.

    Interrupted and failed runs raise; their summary has that status, and the last good checkpoint stays.
    """
    state = checkpoint.load(folder.checkpoints / "last.pt") if resume else None
    device, data = _device_and_data(config, state)
    provenance.reset_peak_memory(device)
    loop = assemble(config, folder, data, device, state)
    run = loop.run
    try:
        with run.interrupted.watching():
            ended_by = loop.train()
        own = loop.method.conclude(run)
        loop.method.keep(run, folder.path)
        loop.save(best=False)
    except (Exception, Interrupted) as error:
        _note_the_end(error, config, folder, device)
        if isinstance(error, torch.OutOfMemoryError):
            raise TrainingFailed("out of memory: lower batch_size or the model's size") from error
        if isinstance(error, OSError):
            raise TrainingFailed(
                f"{folder.path} cannot be written ({error.strerror or error}): make room, and go on with "
                f"`grow resume {folder.path}`"
            ) from error
        raise
    else:
        measured = measure_splits(run.model, data, config)  # once training is over: the only time the test set is read
        summary = _summary(config, run.model, run.progress, folder, device, "finished")
        summary |= {"ended_by": ended_by, "thresholds": loop.trigger.thresholds} | own | measured
        folder.write_summary(summary)
        loop.logger.summary(summary)
    finally:
        loop.close()
    return summary


def assemble(
    config: Config, folder: RunFolder, data: Data, device: torch.device, state: dict[str, Any] | None = None
) -> Loop:
    """Every part of a run, from its config; from a checkpoint's state if there is one."""
    streams = Streams(config.seed, device)
    with streams.using("initialization"):
        model = config.model.build(data.spec) if state is None else rebuild(state["architecture"])
    model.to(device).train()
    batches = Batches(data.train, config.batch_size, streams["data"], prepare=data.prepare, augment=data.augment)
    if config.label_smoothing and data.spec.task != "classification":
        raise UserError(f"label_smoothing={config.label_smoothing} needs classes, and {config.dataset.name} has none")
    loss = loss_function(data.spec.task, config.label_smoothing)
    run = Run(config, device, data, model, config.optimizer.build(model), batches, streams, loss)
    if config.method.needs_trajectory or config.trigger.uses_trajectory():
        t = config.trajectory
        file = folder.path / "trajectory.bin" if t.storage == "file" else None
        storage = "cpu" if device.type == "mps" and t.storage == "device" else t.storage  # MPS has no float64
        run.history = History(t.window, t.dtype, storage, file, sampling=t.sampling, smoothing=t.smoothing)
    parts = [config.dataset, config.model, config.method, config.trigger]
    display = make_display(config.progress, " · ".join([*(part.name for part in parts), str(folder.path)]))
    method, trigger, logger = config.method.build(model), config.trigger.build(), config.logger.build(folder.path)
    method.check(model)
    run.regularizer = method.regularizer
    run.scored = lambda samples: score_now(run, method, samples)
    loop = Loop(run, method, trigger, folder, display, logger)
    if state is None:
        closed = growth_closed(run, method, 0.0, loop.parameters)
        if closed and method.kind != "none":
            warn(f"nothing will grow: {closed}")
        if data.val is data.train:
            warn(
                "dataset.validation=0: nothing is held out, so that whatever goes by validation (best.pt, growth.rollback, "
                "trigger=plateau, stop.plateau, stop.val_score, sweep=optuna) goes by the samples that are trained on"
            )
        a_step = 3 * loop.flops * batches.batch_size
        if config.stop.flops is not None and config.stop.flops < a_step:
            raise UserError(f"stop.flops={config.stop.flops:.3g} is less than one step takes ({a_step:.3g}): give more")
        if config.stop.parameters is not None and config.stop.parameters <= loop.parameters:
            raise UserError(
                f"stop.parameters={config.stop.parameters}: the net has {loop.parameters:,} before it is trained; give more"
            )
        if batches.batch_size == 1:
            _check_single_samples(run)
        run.progress.threads = choose_threads(config.threads, device, loop.flops * batches.batch_size)
        loop.watch_frontier()
    else:
        loop.restore(state)
        folder.trim(rows=run.progress.evaluations, lines=run.progress.firings)
        logger.resume(rows=run.progress.evaluations, events=run.progress.firings)
    torch.set_num_threads(run.progress.threads)
    return loop


def _check_single_samples(run: Run) -> None:
    try:
        with torch.no_grad(), run.streams.peeking("growth"):  # dropout must not move the generators of training
            copy.deepcopy(run.model)(run.data.probe(1).x)
    except ValueError as error:  # one value per channel has no variance
        raise UserError(
            "batch_size=1: this model's batch normalisation needs two samples at least: raise batch_size, or set model.norm=none"
        ) from error


def evaluate(config: Config, folder: RunFolder, which: str) -> dict[str, Any]:
    """Rebuild the net of a checkpoint (`last` or `best`), as far as it has grown, and measure it on every split."""
    state = checkpoint.load(folder.checkpoints / f"{which}.pt")
    device, data = _device_and_data(config, state)
    torch.set_num_threads(state["progress"]["threads"])
    model = rebuild(state["architecture"]).to(device)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise UserError(f"{folder.path}: the checkpoint's weights do not fit its architecture ({error})") from error
    if "inputs" not in state:
        warn(
            "this run's checkpoints, of an older grow, do not hold how inputs are normalised: the data read now decide"
        )
    _check_fits(model, data, state.get("inputs"))
    return {
        "run": str(folder.path),
        "checkpoint": which,
        "step": state["progress"]["step"],
        **measure_splits(model, data, config),
        "parameters": count_parameters(model),
        "widths": widths_text(model),
    }


def _check_fits(model: GrowableModel, data: Data, inputs: dict[str, Any] | None) -> None:
    """Other data than a net was trained on must have its inputs' shape and its classes."""
    spec = data.spec
    if spec.input_shape != tuple(model.input_shape):
        raise UserError(
            f"the net takes inputs of the shape {tuple(model.input_shape)}, and these have {spec.input_shape}"
        )
    classes = tuple(inputs["classes"]) if inputs is not None else spec.classes
    if spec.outputs != model.outputs or spec.classes != classes:
        told = ", ".join(classes) if classes != spec.classes else f"{model.outputs} of them"
        raise UserError(f"the data have other classes ({', '.join(spec.classes)}) than the net was trained on ({told})")


def _device_and_data(config: Config, state: dict[str, Any] | None) -> tuple[torch.device, Data]:
    """The device, set up as the config asks, and the dataset on it, normalised as for a checkpoint's net if there is one."""
    device = choose_device(config.device)
    set_precision(config.precision)
    keep_memory()
    flush_denormals()
    reset_threads()
    inputs = None if state is None else state.get("inputs")  # absent in older checkpoints
    data = load_data(config.dataset, data_dir=config.data_folder, subset=config.subset, device=device, inputs=inputs)
    return device, data


def _note_the_end(error: BaseException, config: Config, folder: RunFolder, device: torch.device) -> None:
    """The summary of a run that did not finish: of what its last checkpoint holds, for the net may be half-grown."""
    with contextlib.suppress(OSError, UserError):  # what ended the run may be that nothing can be written
        state = checkpoint.load(folder.checkpoints / "last.pt")
        progress = Progress()
        progress.load_state_dict(state["progress"])
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        summary = _summary(config, rebuild(state["architecture"]), progress, folder, device, status)
        folder.write_summary(summary | {"error": str(error)})


def _summary(
    config: Config, model: GrowableModel, progress: Progress, folder: RunFolder, device: torch.device, status: str
) -> dict[str, Any]:
    scored = score_name(model.task)
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
        f"best_val_{scored}": progress.best_val_score,
        "best_step": progress.best_step,
        "steps": progress.step,
        "growth_steps": progress.growth_steps,
        "epochs": progress.epoch,
        "events": progress.events,
        "undone": progress.undone,
        "architecture": model.architecture(),
        "widths": widths_text(model),
        "parameters": count_parameters(model),
        "flops_per_sample": flops_per_sample(model, model.input_shape),
        "training_flops": progress.flops,
        "growth_flops": progress.growth_flops,
        "seconds": progress.seconds,
        "growth_seconds": progress.growth_seconds,
        "peak_memory_bytes": provenance.peak_memory_bytes(device),
        "device": provenance.device_name(device),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }
