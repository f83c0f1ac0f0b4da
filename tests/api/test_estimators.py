"""The estimators keep scikit-learn's contract, grow, and leave no folder behind."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.exceptions import SkipTestWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import grow_cli as grow
from grow_cli.errors import UserError

KINDS = {"classifier": grow.GrowClassifier, "regressor": grow.GrowRegressor}
LEARN = ("optimizer.lr=1e-2",)
# of check_estimator's, some that take a second together; all run in test_an_estimator_passes_all_of_scikit_learns_checks
SOME = (
    *("check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_estimators_unfitted"),
    *("check_fit2d_1sample", "check_complex_data", "check_dict_unchanged"),
)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_passes_some_of_scikit_learns_checks(kind: str, name: str) -> None:
    estimator = KINDS[kind](epochs=1, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' own
        getattr(estimator_checks, name)(type(estimator).__name__, estimator)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_passes_all_of_scikit_learns_checks(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", SkipTestWarning)
        check_estimator(KINDS[kind](epochs=20, device="cpu"), on_skip=None)


def test_a_classifier_grows_in_a_pipeline_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x, y = make_moons(300, noise=0.1, random_state=0)
    names = np.array(["low", "high"])[y]
    keys = ("trigger.every=5", "optimizer.lr=1e-2", "method.significance=false")
    grown = grow.GrowClassifier(trigger="every", model=(2,), epochs=30, device="cpu", overrides=keys)
    pipeline = make_pipeline(StandardScaler(), grown).fit(x, names)
    assert pipeline.score(x, names) > 0.85
    assert list(grown.classes_) == ["high", "low"]
    assert grown.growth_["units_added"].sum() > 0
    assert grown.net_.widths()[0] > 2
    assert grown.summary_["parameters"] == sum(p.numel() for p in grown.net_.parameters())
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_regressor_has_one_target_or_several() -> None:
    x = np.random.default_rng(0).normal(size=(80, 3))
    one = grow.GrowRegressor(method="static", trigger="never", model=(8,), epochs=60, device="cpu", overrides=LEARN)
    assert one.fit(x, 100 * x[:, 0] + 7).score(x, 100 * x[:, 0] + 7) > 0.5
    assert one.predict(x).shape == (80,)
    several = grow.GrowRegressor(epochs=1, device="cpu").fit(x, x[:, :2])
    assert several.predict(x).shape == (80, 2)


@pytest.mark.parametrize(
    ("keys", "told"),
    [({"method": "tyni"}, "tiny"), ({"epochs": 0}, "stop.epochs=0"), ({"overrides": ("dataset=digits2",)}, "dataset")],
)
def test_wrong_parameters_are_refused_in_a_sentence(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        grow.GrowClassifier(**keys).fit(np.eye(4), [0, 1, 0, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [grow.GrowClassifier, grow.GrowRegressor])
def test_a_missing_number_is_refused_in_one_sentence(kind: type, bad: float) -> None:
    x = np.eye(4)
    x[2, 1] = bad
    with pytest.raises(ValueError, match=r"^X holds NaN or infinity in 1 of 4 rows: fill these in [^\n]*$"):
        kind().fit(x, [0, 1, 0, 1])


def test_a_single_class_is_named_as_the_user_wrote_it() -> None:
    with pytest.raises(ValueError, match=r"^y holds only one class, 3: a classifier needs 2 classes or more$"):
        grow.GrowClassifier().fit(np.eye(4), [3, 3, 3, 3])


def test_an_answer_does_not_depend_on_the_samples_beside_it() -> None:
    x = np.random.default_rng(0).normal(size=(67, 10))
    grown = grow.GrowClassifier(epochs=1, device="cpu").fit(x, np.arange(67) % 3)
    together = grown.predict_proba(x)
    alone = np.concatenate([grown.predict_proba(one[None]) for one in x])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
