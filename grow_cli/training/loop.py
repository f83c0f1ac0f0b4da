"""The training loop: steps, snapshots, evaluations, the trigger, growth, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from grow_cli.errors import Interrupted, Paused, TrainingFailed
from grow_cli.loggers.base import Logger
from grow_cli.records.events import GrowthEvent
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import widths_text
from grow_cli.surgery.measure import count_parameters
from grow_cli.training import checkpoint
from grow_cli.training.budget import Ended
from grow_cli.training.device import fastest_convolutions, synchronize
from grow_cli.training.display import Display
from grow_cli.training.evaluation import measure_grid, measure_split
from grow_cli.training.event import grow, growth_closed
from grow_cli.training.graph import replayed
from grow_cli.training.metrics import Gathered
from grow_cli.training.rollback import roll_back, undo_of
from grow_cli.training.session import Session
from grow_cli.training.step import Step, extra_flops, extra_so_far, make_measuring_step, make_step, pass_flops


class Loop:
    """Trains a session to its end."""

    def __init__(self, session: Session, folder: RunFolder, display: Display, logger: Logger) -> None:
        self.session, self.method, self.trigger = session, session.method, session.trigger
        self.folder, self.display, self.logger = folder, display, logger
        self.gathered = Gathered(session.task, session.device)
        self.grown_since_evaluation = False
        self.pause_at = math.inf
        """FLOPs by which it is set aside after an evaluation, to be resumed if it is worth it."""
        self.hopeless: Callable[[int, float], bool] = lambda evaluations, best: False
        """Asked after each evaluation, with how many there were and the best validation score (more is better)."""
        self._pruned = False
        self._replayed = replayed(session)
        self._model_changed()

    def watch_frontier(self) -> None:
        """Begin an empty history of the present frontier."""
        if self.session.history is not None:
            self.session.history.watch(dict(self.method.frontier(self.session.model).named_parameters()))
            self.session.progress.snapshots = 0
            self._snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        checkpoint.restore(state, self.session, self.gathered)
        self.method.keep(self.session.moment(), self.folder.path)
        self._model_changed()

    def train(self) -> Ended:
        """Train until a stop rule holds; says which. Interrupted and TrainingFailed come out as exceptions."""
        progress = self.session.progress
        self.display.start(self.session.budget.steps, self.thresholds)
        if progress.step == 0:
            self.save(best=False)
        while True:
            ended = self.session.budget.ended(progress, self.parameters)
            if ended is None and self._pruned:
                ended = Ended("pruned", progress.evaluations)
            if ended is not None:
                if self.grown_since_evaluation:  # it is the growth that ended the run
                    self._evaluate()
                return ended
            if progress.growth_pending:
                self._grow()
            elif progress.flops >= self.pause_at:
                self.save(best=False)
                raise Paused(progress.flops)
            else:
                self.train_until_next_evaluation()
                self._pruned = self.hopeless(progress.evaluations, progress.best_val_score)

    def train_until_next_evaluation(self) -> None:
        """Train up to the next evaluation, and evaluate."""
        with fastest_convolutions():
            session = self.session
            self._train_until(session.budget.next_evaluation(session.progress.step, session.config.evaluate))
        self._evaluate()

    def _train_until(self, end: int) -> None:
        session, progress, budget, config = (
            self.session,
            self.session.progress,
            self.session.budget,
            self.session.config,
        )
        end = int(min(end, budget.steps))
        batches, groups, history, gathered = (
            session.batches,
            session.optimizer.param_groups,
            session.history,
            self.gathered,
        )
        snapshot_every = config.trajectory.every if history is not None else 0
        smoothing = history is not None and config.trajectory.smoothing > 0
        factor, until, base_lr = config.schedule.factor, config.growth.until, config.optimizer.lr
        step_once, display, interrupted = self._step, self.display, self._asked_to_stop
        seconds_left = math.inf if config.stop.seconds is None else config.stop.seconds - progress.seconds
        flops_limit, flops = config.stop.flops, 0
        extra = extra_so_far(session)
        earlier, step, lr = progress.seconds, progress.step, -1.0
        begun = self._clock
        while step < end:
            elapsed = self._clock - begun
            if elapsed >= seconds_left or interrupted() is not None:
                break
            if flops_limit is not None:
                flops = progress.flops + self._flops_of(step - progress.step, extra)
                if flops >= flops_limit:
                    break
            used = budget.used(step, earlier + elapsed, flops)
            new_lr = base_lr * factor(used, progress.restarted_at, step - progress.restart_step, until)
            if new_lr != lr:
                lr = new_lr
                for group in groups:
                    group["lr"] = lr
            x, y = batches.next()
            loss, outputs = step_once(x, y)
            gathered.add(loss, outputs, y)
            step += 1
            if smoothing and history is not None:
                history.smooth()
            if snapshot_every and step % snapshot_every == 0:
                self._snapshot()
            display.step(step)
        synchronize(session.device)
        taken = step - progress.step
        progress.flops += self._flops_of(taken, extra)
        progress.step = step
        progress.samples += taken * batches.batch_size
        progress.epoch = budget.epoch(step)
        progress.seconds += self._clock - begun
        signal_number = interrupted()
        # at the end the evaluation comes first: resumed, it would be left out
        if signal_number is not None and step < end:
            self.save(best=False)
            raise Interrupted(signal_number)

    @property
    def _clock(self) -> float:
        """Seconds, which stand still while torch compiles."""
        return time.perf_counter() - self.session.progress.compile_seconds

    @property
    def _asked_to_stop(self) -> Callable[[], int | None]:
        """Called between steps: the number of the signal that asks for a stop, or None."""
        return self.session.interrupted

    @property
    def thresholds(self) -> dict[str, float]:
        """The trigger's, now."""
        return self.trigger.thresholds(self.session.moment())

    def _flops_of(self, steps: int, extra: int) -> int:
        """FLOPs of some steps on the current net, before which the optimizer had done `extra` beyond its passes."""
        beyond = extra_flops(self.session, extra) if extra_so_far(self.session) != extra else 0
        return (steps * self.step_flops + beyond) * self.session.batches.batch_size

    def _snapshot(self) -> None:
        session, progress = self.session, self.session.progress
        assert session.history is not None
        session.history.append(progress.snapshots)
        progress.snapshots += 1
        spent = 2 * len(session.history) * self.frontier_parameters
        progress.flops += spent
        progress.growth_flops += spent

    def _evaluate(self) -> None:
        """Measure, evaluate the trigger, write the row, decide about growth, save."""
        session, progress, config = self.session, self.session.progress, self.session.config
        progress.evaluations += 1
        trained = not self.gathered.empty
        self.grown_since_evaluation = False
        measured = self.gathered.read() | measure_split("val", session.model, session.data, config)
        measured |= measure_grid(session.model, session.data, config)
        if config.evaluate.test_every is not None:
            due = progress.evaluations % config.evaluate.test_every == 0
            nothing = dict.fromkeys(session.task.columns("test"), math.nan)
            measured |= measure_split("test", session.model, session.data, config) if due else nothing
        if config.stop.train_score is not None:  # train_accuracy was gathered while the net changed
            measured |= self._whole_training_split(measured)
        session.measured = measured
        session.closed = growth_closed(session, session.used)
        finite = math.isfinite(measured["val_loss"]) and (math.isfinite(measured["train_loss"]) or not trained)
        verdict = self.trigger.update(session.moment()) if finite else None
        readings = dict.fromkeys(self.trigger.readings, math.nan) | dict(verdict.readings if verdict else {})
        row = {
            "step": progress.step,
            "epoch": round(progress.epoch, 6),
            "samples": progress.samples,
            "seconds": progress.seconds,
            "growth_seconds": progress.growth_seconds,
            "flops": progress.flops,
            "parameters": self.parameters,
            "widths": widths_text(session.model.widths()),
            "lr": session.optimizer.param_groups[0]["lr"],
            "batch_size": session.batches.batch_size,
            **measured,
            **{f"trigger/{name}": value for name, value in readings.items()},
        }
        self.folder.append_metrics(row)
        self.logger.metrics(row)
        self.display.evaluation(row, self.thresholds, session.closed)
        if verdict is None:
            raise TrainingFailed(
                f"the loss is no longer finite at step {progress.step:,} (training {measured['train_loss']}, validation "
                f"{measured['val_loss']}): lower optimizer.lr={config.optimizer.lr:g} or set clip_norm=1; the last good "
                f"checkpoint is kept"
            )
        better = self._note_best(measured)
        progress.readings = dict(verdict.readings)
        if verdict.fires and session.closed and session.undo_helped:
            session.undo = None  # the last growth has helped, and nothing will be asked of it again
        progress.growth_pending = verdict.fires and (not session.closed or session.undo is not None)
        if better or progress.growth_pending or progress.evaluations % config.checkpoint.every == 0:
            self.save(best=better)

    def _whole_training_split(self, measured: dict[str, float]) -> dict[str, float]:
        """`whole_train_loss` and `whole_train_<score>`, by the net as it is; noted for `stop.train_score`."""
        session, task = self.session, self.session.task
        name = "val" if session.data.val is session.data.train else "train"
        found = measured if name == "val" else measure_split(name, session.model, session.data, session.config)
        session.progress.train_score = task.direction * found[task.column(name)]
        return {f"whole_train_{key}": found[f"{name}_{key}"] for key in ("loss", task.score)}

    def _note_best(self, measured: dict[str, float]) -> bool:
        """Whether this is the best validation so far."""
        progress = self.session.progress
        better = self.session.is_best
        if better:
            progress.best_val_score, progress.loss_at_best = self.session.score, measured["val_loss"]
            progress.best_step, progress.events_without_gain = progress.step, 0
        gained = measured["val_loss"] < progress.best_val_loss
        progress.best_val_loss = min(progress.best_val_loss, measured["val_loss"])
        progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
        return better

    def _grow(self) -> None:
        session, progress = self.session, self.session.progress
        self.display.growing()
        if self._replayed is not None:
            self._replayed.forget()
        batch_size = session.batches.batch_size
        if session.config.checkpoint.events:
            checkpoint.save_net(self.folder.checkpoints, session, progress.firings + 1)
        rolled_back = session.undo is not None and not session.undo_helped
        event = roll_back(session) if rolled_back else self._grown()
        event.step, event.epoch = progress.step, round(progress.epoch, 6)
        event.method, event.trigger = session.config.method.name, session.config.trigger.name
        event.readings = progress.readings
        if session.batches.batch_size != batch_size:
            progress.anchor_step, progress.anchor_epoch = progress.step, progress.epoch
        progress.growth_pending = False
        progress.firings += 1
        if event.proposals or rolled_back:  # a best update alone changes the net, too
            self.grown_since_evaluation = True
            self._model_changed()
            self.watch_frontier()
        if event.resized:
            progress.events += 1
            progress.events_without_gain += 1
            progress.evaluations_without_gain = 0  # a grown net gets its evaluations
            if session.config.schedule.restart:
                progress.restarted_at = session.used
                progress.restart_step = progress.step
        self.trigger.reset(session.moment())
        event.event, event.seconds = progress.firings, progress.seconds
        self.method.keep(session.moment(), self.folder.path)
        self.folder.append_growth(event.to_json())
        self.logger.growth(event.to_json())
        self.display.growth(event, session.budget.steps)

    def _grown(self) -> GrowthEvent:
        session = self.session
        undo = undo_of(session) if session.config.growth.rollback else None
        event = grow(session)
        if undo is not None:
            undo.units = event.units_added
            session.undo = undo if event.proposals else None
        return event

    def _model_changed(self) -> None:
        """What is derived from the model and costs too much to derive at every step."""
        session = self.session
        make = make_step if self.method.trains_by_gradient else make_measuring_step
        step = make(session, compiled=session.config.compile)
        self._step: Step = step if self._replayed is None else self._replayed.over(step)
        self.flops = session.flops
        self.step_flops = pass_flops(session) if self.method.trains_by_gradient else self.flops
        self.parameters = session.parameters
        frontier = self.method.frontier(session.model) if session.history is not None else None
        self.frontier_parameters = 0 if frontier is None else count_parameters(frontier)

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return checkpoint.capture(self.session, self.gathered)

    def save(self, *, best: bool) -> None:
        """A checkpoint."""
        checkpoint.save(self.folder.checkpoints, self.state(), best=best)

    def close(self) -> None:
        """Give terminal and files back."""
        self.display.stop()
        self.logger.close()
        if self.session.history is not None:
            self.session.history.close()
