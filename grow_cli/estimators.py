"""`GrowClassifier` and `GrowRegressor`: growing nets as scikit-learn's estimators."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

# Fewer samples than this: none is held out, for a tenth of them says nothing.
_HELD_OUT_FROM = 50


class _Grown(BaseEstimator):
    """What both share. A multilayer perceptron, trained in a temporary folder of which nothing stays."""

    def __init__(
        self,
        method: str = "tiny",
        trigger: str | None = None,
        model: Sequence[int] = (8,),
        epochs: int = 100,
        seed: int = 0,
        device: str = "auto",
        overrides: Sequence[str] = (),
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.trigger = trigger
        self.model = model
        self.epochs = epochs
        self.seed = seed
        self.device = device
        self.overrides = overrides
        self.verbose = verbose

    def _words(self, n: int) -> list[str]:
        from grow_cli.api.overrides import typed

        keys: dict[str, Any] = {
            "method": self.method,
            "model": "mlp",
            "model.hidden": list(self.model),
            "model.activation": "gelu",  # zero at zero and sloped there on both sides, which most methods ask for
            "stop.epochs": self.epochs,
            "seed": self.seed,
            "device": self.device,
            "progress": "off",
        }
        if self.trigger is not None:
            keys["trigger"] = self.trigger
        if n < _HELD_OUT_FROM:
            keys["dataset.validation"] = 0
        return typed([*typed((), keys), *self.overrides], {})

    def _train(self, x: np.ndarray, y: np.ndarray, names: tuple[str, ...] = ()) -> None:
        """Train on checked samples (n, d) and class numbers (n,) or values (n, k)."""
        from grow_cli.api.fitting import run_on
        from grow_cli.api.given import raw_data
        from grow_cli.api.guard import silent

        raw = raw_data((x, y), names=names)
        quiet = nullcontext() if self.verbose else silent(warnings=True)
        with tempfile.TemporaryDirectory(prefix="grow-") as folder, quiet:
            run = run_on(raw, [*self._words(len(x)), f"run_dir={Path(folder) / 'run'}"])
            self.net_, self.summary_, self.growth_, self.metrics_ = run.net, run.summary, run.growth, run.metrics
            self._inputs = run.inputs
        self.n_iter_ = int(self.summary_["steps"])

    def _outputs(self, x: Any) -> np.ndarray:
        """(n, outputs) of the net, float64."""
        from grow_cli.api.results import outputs_of

        check_is_fitted(self)
        x = _finite(validate_data(self, x, reset=False, dtype=np.float32, ensure_all_finite=False))
        # in float32 the last bit of an answer depends on its place in the batch, and scikit-learn compares to 1e-7
        return outputs_of(deepcopy(self.net_).double(), self._inputs, x)


class GrowClassifier(ClassifierMixin, _Grown):
    """A classifier that grows while it trains.

    :param method: how it grows, as `method=` of `grow train`
    :param trigger: when; None: the method's own
    :param model: hidden widths that it begins with
    :param epochs: passes over the samples
    :param seed: of initialization, data order and growth
    :param device: auto, cpu, cuda, cuda:1 or mps
    :param overrides: any other keys, as `("optimizer.lr=1e-2", "growth.neurons=4")`
    :param verbose: whether warnings of the training are printed

    After `fit`: `classes_`, `net_` (a torch module of standardised inputs), `growth_`, `metrics_` and `summary_`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite=False)
        _finite(X)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds only one class, {self.classes_[0]}: a classifier needs 2 classes or more")
        self._train(X, numbers.astype(np.int64), tuple(map(str, self.classes_)))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes), in the order of `classes_`."""
        from scipy.special import softmax

        return np.asarray(softmax(self._outputs(X), axis=1))

    def predict(self, X: Any) -> np.ndarray:
        """(n,) of `classes_`."""
        best = self._outputs(X).argmax(1)
        return np.asarray(self.classes_[best])


class GrowRegressor(RegressorMixin, _Grown):
    """A regressor that grows while it trains, of one target or several; targets are standardised for training.

    Its parameters are those of `GrowClassifier`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True, y_numeric=True, ensure_all_finite=False)
        _finite(X)
        if len(X) < 2:
            raise ValueError("there is 1 sample: a regression needs 2 samples or more")
        values = np.asarray(y, dtype=np.float64)
        self._flat = values.ndim == 1
        values = values.reshape(len(values), -1)
        spread = values.std(0)
        self._mean, self._spread = values.mean(0), np.where(spread > 0, spread, 1.0)
        self._train(X, ((values - self._mean) / self._spread).astype(np.float32))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n,), or (n, targets) where several were given."""
        values = self._outputs(X)
        values = values * self._spread + self._mean
        return np.asarray(values[:, 0] if self._flat else values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _finite(x: np.ndarray) -> np.ndarray:
    """The same samples; ValueError in one sentence, where scikit-learn's takes five, if a number is missing or infinite."""
    rows = int((~np.isfinite(x)).any(axis=1).sum())
    if rows:
        raise ValueError(
            f"X holds NaN or infinity in {rows} of {len(x)} rows: fill these in (sklearn.impute) or drop the rows"
        )
    return x
