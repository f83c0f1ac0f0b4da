"""A search in Optuna's hands: which values to try next. Several processes may work on one study, and any of them may be killed.

A study lies in FOLDER/study.db (SQLite). A process takes a trial under the folder's lock, and holds a lock of the trial's own
while it is at it: a trial that is not finished and whose lock is free is one whose process is gone, and the next process goes on
with it. What a trial tries depends on its number, on the study's seed and on what the trials before it came to, on nothing else.

A pruner may give a trial up while its first run trains: that run's best validation score after each evaluation is held against
what other trials had after as many.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grow_cli.errors import UserError
from grow_cli.files import make_folder, open_lock
from grow_cli.records.grammar import word
from grow_cli.tuning.space import Choice, Space

RANDOM = 5
"""Trials that are drawn at random before the sampler reads what came of them."""
PRUNERS = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}
"""As --pruner names them → Optuna's class, whose defaults hold."""


@dataclass(frozen=True)
class Result:
    """What a trial came to."""

    score: float | None
    """More is better; None where a training failed, or was given up."""
    note: str = ""
    """Said beside it."""
    pruned: bool = False

    @property
    def state(self) -> str:
        """The trial's, from now on."""
        return "pruned" if self.pruned else "failed" if self.score is None else "finished"


@dataclass(frozen=True)
class Trial:
    """One set of values."""

    number: int
    values: dict[str, Any]
    state: str = "open"
    """open, finished, failed, pruned."""
    score: float | None = None
    """More is better."""
    folder: Path = field(default=Path(), compare=False)


def require() -> None:
    """UserError, with the line to type, where Optuna 4 or later is not installed."""
    try:
        found = version("optuna")
    except PackageNotFoundError:
        raise UserError("grow tune needs Optuna: pip install 'grow-cli[tune]'") from None
    if int(found.split(".")[0]) < 4:
        raise UserError(f"grow tune needs Optuna 4 or later, and {found} is installed: pip install 'optuna>=4'")


class Study:
    """The study of one method: its trials, in a folder."""

    def __init__(
        self,
        folder: Path,
        name: str,
        space: Space,
        recipe: dict[str, Any] | None = None,
        seed: int = 0,
        pruner: str = "none",
    ):
        """:param recipe: values that are tried first, where they lie in the space: those without a search"""
        require()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.name, self.space, self.seed = folder, name, space, seed
        make_folder(folder / name)
        with self._locked():
            self._storage = optuna.storages.RDBStorage(
                f"sqlite:///{(folder / 'study.db').absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                pruner=getattr(optuna.pruners, PRUNERS[pruner])(),
            )
            if recipe is not None and not self._study.get_trials(deepcopy=False):
                self._study.enqueue_trial(
                    {k: word(v) if isinstance(space[k], Choice) else v for k, v in recipe.items()}
                )

    def close(self) -> None:
        """Let the database go."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def trials(self) -> list[Trial]:
        """All that were asked for, in order."""
        return [trial for trial in map(self._trial, self._asked()) if set(trial.values) == set(self.space)]

    @contextlib.contextmanager
    def take(self, count: int) -> Iterator[Trial | None]:
        """A trial to be trained, this process's until the block is left; None when there are `count`, or others are at the last.

        First one whose process is gone, else a new one.
        """
        with contextlib.ExitStack() as held:
            with self._locked():
                taken = self._abandoned(held) or self._new(held, count)
            yield taken

    def hopeless(self, trial: Trial, evaluations: int, best: float) -> bool:
        """Note the best score after `evaluations` evaluations of a trial's first run; returns whether the pruner stops the trial.

        Never the first trial, which is the recipe: the winner is not to be worse than it.
        """
        with self._locked():
            study = self._storage.get_study_id_from_name(self.name)
            known = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
            self._storage.set_trial_intermediate_value(known, evaluations, best)
            return trial.number > 0 and bool(self._study.pruner.prune(self._study, self._storage.get_trial(known)))

    def tell(self, trial: Trial, result: Result) -> None:
        """How it ended."""
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}
        with self._locked():
            self._study.tell(trial.number, result.score, state=states[result.state])

    def _asked(self) -> list[Any]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.state.name != "WAITING"]

    def _trial(self, frozen: Any) -> Trial:
        known = {"COMPLETE": "finished", "FAIL": "failed", "PRUNED": "pruned"}
        values = {key: self._value(key, frozen.params[key]) for key in self.space if key in frozen.params}
        return Trial(
            frozen.number,
            values,
            known.get(frozen.state.name, "open"),
            frozen.value if frozen.state.name == "COMPLETE" else None,
            self.folder / self.name / f"trial-{frozen.number:03d}",
        )

    def _value(self, key: str, raw: Any) -> Any:
        part = self.space[key]
        if isinstance(part, Choice):
            return next(value for value in part.values if word(value) == raw)
        return part.value(raw)

    def _abandoned(self, held: contextlib.ExitStack) -> Trial | None:
        for trial in map(self._trial, self._asked()):
            if trial.state != "open" or not self._hold(trial, held):
                continue
            if set(trial.values) == set(self.space):
                return trial
            # killed between asking and knowing what for: another is asked for in its place
            import optuna

            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return None

    def _new(self, held: contextlib.ExitStack, count: int) -> Trial | None:
        asked = len(self._asked())
        if len(self.trials()) >= count:
            return None
        self._study.sampler = self._sampler(asked)
        self._lay_out_brackets()
        asking = self._study.ask()
        trial = Trial(asking.number, {}, folder=self.folder / self.name / f"trial-{asking.number:03d}")
        self._hold(trial, held)
        return replace(trial, values={key: self._value(key, self._suggest(asking, key)) for key in self.space})

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import TPESampler

        seed = (self.seed * 1_000_003 + number) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is called experimental before Optuna 5
            return TPESampler(seed=seed, n_startup_trials=RANDOM, constant_liar=True)

    def _lay_out_brackets(self) -> None:
        """The sampler reads Hyperband's, which are laid out when it is first asked: a process that goes on asks likewise."""
        import optuna

        self._study.pruner.prune(self._study, optuna.trial.create_trial(value=0.0))

    def _suggest(self, asking: Any, key: str) -> Any:
        part = self.space[key]
        if isinstance(part, Choice):
            return asking.suggest_categorical(key, [word(value) for value in part.values])
        suggest = asking.suggest_int if part.whole else asking.suggest_float
        return suggest(key, part.low, part.high, log=part.log)

    def _hold(self, trial: Trial, held: contextlib.ExitStack) -> bool:
        """Whether the trial is this process's now, until `held` is left."""
        make_folder(trial.folder)
        file = os.fdopen(open_lock(trial.folder / ".lock"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        held.enter_context(file)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / ".lock"
        try:
            file = os.fdopen(open_lock(path))
        except OSError as error:
            raise UserError(
                f"{path} cannot be opened ({error.strerror}): choose another folder with --folder FOLDER"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def search(
    study: Study,
    train: Callable[[Trial], Result],
    count: int,
    ended: Callable[[Trial, str], None] = lambda trial, note: None,
    most: int | None = None,
) -> None:
    """Train trials until there are `count`; what `train` raises ends the search, and a later one continues that trial.

    :param ended: called with each trial and the note on it
    :param most: the most that this call trains
    """
    done = 0
    while most is None or done < most:
        with study.take(count) as trial:
            if trial is None:
                return
            known = [t for t in study.trials() if t.state in ("finished", "pruned") and t.values == trial.values]
            same = [Result(t.score, f"as trial {t.number}", t.state == "pruned") for t in known]
            result = same[0] if same else train(trial)
            study.tell(trial, result)
            ended(replace(trial, state=result.state, score=result.score), result.note)
        done += 1


def winner(trials: list[Trial]) -> Trial | None:
    """The best, of equals the earliest; None where none is finished."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.score is not None]
    return max(finished, key=lambda trial: (trial.score, -trial.number), default=None)
