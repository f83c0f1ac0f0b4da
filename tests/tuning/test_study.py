"""A search finds a planted best, in one process or several, killed or not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra tune")

from grow_cli.tuning.space import Choice, Span
from grow_cli.tuning.study import PRUNERS, Result, Study, Trial, search, winner

SPACE = {"optimizer.lr": Span(1e-4, 1e-1, log=True), "optimizer": Choice(("adam", "sgd"))}


def planted(trial: Trial) -> Result:
    """Best at 10^-2.5 with sgd."""
    far = math.log10(trial.values["optimizer.lr"]) + 2.5
    return Result(-(far**2) - (trial.values["optimizer"] != "sgd"))


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    made = Study(tmp_path, "tiny", SPACE)
    yield made
    made.close()


def test_a_planted_best_is_found_and_the_search_learns_from_its_trials(study: Study) -> None:
    search(study, planted, 24)
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(24))
    best = winner(trials)
    assert best is not None
    assert best.values["optimizer"] == "sgd"
    assert abs(math.log10(best.values["optimizer.lr"]) + 2.5) < 0.15
    late = Counter(trial.values["optimizer"] for trial in trials[12:])
    assert late["sgd"] > late["adam"], "at random they would be as many"


def test_the_recipe_without_a_search_is_tried_first(tmp_path: Path) -> None:
    study = Study(tmp_path, "tiny", SPACE, recipe={"optimizer.lr": 0.002, "optimizer": "adam"})
    search(study, planted, 2)
    study.close()
    assert study.trials()[0].values == {"optimizer.lr": 0.002, "optimizer": "adam"}
    study.close()


def test_every_study_of_a_folder_begins_with_the_same_points(tmp_path: Path) -> None:
    """So that two methods that are tuned in one folder are tuned alike, and the same again."""
    found = []
    for name in ("tiny", "senn"):
        study = Study(tmp_path, name, SPACE)
        search(study, planted, 7)
        found.append([trial.values for trial in study.trials()])
        study.close()
    assert found[0] == found[1]


def test_values_that_were_tried_are_not_trained_again(tmp_path: Path) -> None:
    study = Study(tmp_path, "tiny", {"batch_size": Choice((16, 32))})
    trained, notes = [], []
    search(study, lambda t: trained.append(t) or Result(1.0), 6, lambda trial, note: notes.append(note))  # type: ignore[func-returns-value]
    assert len(study.trials()) == 6
    assert len(trained) == 2
    assert sum(note.startswith("as trial ") for note in notes) == 4
    study.close()


def test_a_trial_that_failed_counts_and_never_wins(study: Study) -> None:
    search(study, lambda t: Result(None, "loss") if t.number == 1 else Result(-1e9), 3)
    assert [trial.state for trial in study.trials()] == ["finished", "failed", "finished"]
    best = winner(study.trials())
    assert best is not None
    assert best.number == 0, "of equals the earliest"
    assert winner([]) is None


def test_a_trial_that_was_interrupted_is_gone_on_with_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    whole = Study(tmp_path, "whole", SPACE)
    search(whole, planted, 8)
    expected = [(trial.values, trial.score) for trial in whole.trials()]
    whole.close()

    begun: list[int] = []

    def killed_at_4_and_6(trial: Trial) -> Result:
        begun.append(trial.number)
        if trial.number in (4, 6) and begun.count(trial.number) == 1:
            raise KeyboardInterrupt
        return planted(trial)

    for _ in range(3):
        part = Study(tmp_path, "part", SPACE)
        try:
            search(part, killed_at_4_and_6, 8)
        except KeyboardInterrupt:
            continue
        finally:
            part.close()
    part = Study(tmp_path, "part", SPACE)
    assert [(trial.values, trial.score) for trial in part.trials()] == expected
    assert Counter(begun) == {number: 2 if number in (4, 6) else 1 for number in range(8)}
    part.close()


def curves(study: Study, given_up: list[int], dies: tuple[int, int] | None = None) -> Callable[[Trial], Result]:
    """Trains in four evaluations, towards what `planted` says; killed once, at an evaluation of a trial."""
    died: list[int] = []

    def train(trial: Trial) -> Result:
        reached = planted(trial).score
        assert reached is not None
        for evaluation in range(1, 5):
            hopeless = study.hopeless(trial, evaluation, reached - 1 / evaluation)
            if dies == (trial.number, evaluation) and not died:
                died.append(evaluation)
                raise KeyboardInterrupt
            if hopeless and evaluation < 4:
                given_up.append(trial.number)
                return Result(None, f"after {evaluation} evaluations", pruned=True)
        return Result(reached)

    return train


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name != "none"])
def test_a_pruner_gives_hopeless_trials_up_and_the_planted_best_is_found_nonetheless(
    tmp_path: Path, pruner: str
) -> None:
    study = Study(tmp_path, "tiny", SPACE, recipe={"optimizer.lr": 1e-4, "optimizer": "adam"}, pruner=pruner)
    given_up: list[int] = []
    search(study, curves(study, given_up), 24)
    states = [trial.state for trial in study.trials()]
    assert [number for number, state in enumerate(states) if state == "pruned"] == given_up
    assert len(given_up) >= 6
    assert states[0] == "finished", "the recipe, which is the worst here, is never given up"
    best = winner(study.trials())
    assert best is not None
    assert best.number not in given_up
    assert best.values["optimizer"] == "sgd"
    assert abs(math.log10(best.values["optimizer.lr"]) + 2.5) < 0.3
    study.close()


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_search_with_a_pruner_that_is_interrupted_tries_and_prunes_the_same(tmp_path: Path, pruner: str) -> None:
    found = []
    for name, dies in (("whole", None), ("part", (7, 1))):
        for _ in range(2 if dies else 1):
            study = Study(tmp_path, name, SPACE, pruner=pruner)
            if dies and not study.trials():
                with pytest.raises(KeyboardInterrupt):
                    search(study, curves(study, [], dies), 12)
            else:
                search(study, curves(study, []), 12)
            found.append([(trial.values, trial.state, trial.score) for trial in study.trials()])
            study.close()
    assert found[0] == found[2]
    assert "pruned" in [state for _, state, _ in found[0]]


def test_values_that_were_given_up_are_not_trained_again(tmp_path: Path) -> None:
    study = Study(tmp_path, "tiny", {"batch_size": Choice((16, 32))}, pruner="median")
    trained: list[int] = []

    def train(trial: Trial) -> Result:
        trained.append(trial.number)
        return Result(None, "after 1 evaluation", pruned=True)

    search(study, train, 5)
    assert len(trained) == 2
    assert [trial.state for trial in study.trials()] == ["pruned"] * 5
    assert winner(study.trials()) is None
    study.close()


# kill -9 in the middle of its third trial, if it is told so; else it works slowly on what there is
WORKER = """
import os, signal, sys, time
from pathlib import Path
from grow_cli.tuning.study import Study, search
from tuning.test_study import SPACE, planted

folder, dies = Path(sys.argv[1]), sys.argv[2] == "dies"
done = []

def train(trial):
    if dies and len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(trial.number)
    time.sleep(0.05)
    return planted(trial)

study = Study(folder, "tiny", SPACE)
search(study, train, 14)
print(*done)
"""


@pytest.mark.slow
def test_two_processes_share_a_study_and_a_third_that_was_killed_leaves_no_trial_behind(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": f"{root}:{root / 'tests'}:" + ":".join(sys.path)}

    def begin(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, str(tmp_path), how]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    dies = begin("dies")
    assert dies.communicate(timeout=60)[0] == ""
    assert dies.returncode == -9
    study = Study(tmp_path, "tiny", SPACE)
    assert [trial.state for trial in study.trials()] == ["finished", "finished", "open"]
    two = [begin("lives"), begin("lives")]
    done = [[int(n) for n in one.communicate(timeout=60)[0].split()] for one in two]
    assert sorted(done[0] + done[1]) == list(range(2, 14)), "each trial once, the killed one's among them"
    assert [trial.state for trial in study.trials()] == ["finished"] * 14
    asked = [tuple(trial.values.items()) for trial in study.trials()]
    assert len(set(asked)) == 14, "two processes are not sent to the same point"
    study.close()
