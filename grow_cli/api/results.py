"""A run as a Python object, whose attributes are read from its folder when needed."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from grow_cli.analysis.predicting import in_unit, outputs_of
from grow_cli.api.given import DATA
from grow_cli.data.base import DataSpec
from grow_cli.errors import UserError
from grow_cli.models.base import restored
from grow_cli.models.modules.network import GrowableModel
from grow_cli.models.modules.traced import Template, TracedNet, lent, template_of
from grow_cli.records.events import GrowthEvent, growth_events
from grow_cli.records.folder import RunFolder
from grow_cli.records.metrics import read_metrics
from grow_cli.tasks import task_in
from grow_cli.training import checkpoint

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """One run: its folder, its net, what happened, and what the net says of new samples."""

    def __init__(self, folder: RunFolder, which: str = "last", *, template: Template | None = None) -> None:
        self._files, self._which, self._template = folder, which, template

    def __repr__(self) -> str:
        summary = self.summary
        column = task_in(summary, "val").column("val")
        score = f", {column} {summary[column]:.4f}" if isinstance(summary.get(column), float) else ""
        named = f"{summary['method']} on {summary['dataset']}, " if "method" in summary else ""
        return f"<Run {self.folder}: {named}{summary.get('status', 'not ended')}{score}>"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._files.path

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json; empty while the run trains for the first time."""
        return dict(self._files.read_summary())

    @property
    def config(self) -> dict[str, Any]:
        """Its whole configuration, as plain data."""
        return dict(self._files.config())

    @property
    def metrics(self) -> pd.DataFrame:
        """A row per evaluation (metrics.csv)."""
        return read_metrics(self._files)

    @property
    def growth(self) -> pd.DataFrame:
        """A row per growth event (growth.jsonl); none where nothing grew."""
        import pandas as pd

        rows = [event.to_json() for event in growth_events(self._files)]
        return pd.DataFrame(rows, columns=None if rows else [f.name for f in fields(GrowthEvent)])

    @cached_property
    def _state(self) -> dict[str, Any]:
        with lent(self._template):
            return checkpoint.read(self._files.checkpoints / f"{self._which}.pt")

    @cached_property
    def net(self) -> GrowableModel:
        """The net as far as it has grown, on the CPU and in evaluation mode. It takes normalised inputs; `predict` raw ones."""
        with lent(self._template):
            net = restored(self._state["architecture"], self._state["model"])
        return net.eval()

    @property
    def module(self) -> nn.Module:
        """The net; of a run of `grow.fit` the module that was given, grown."""
        return self.net.module if isinstance(self.net, TracedNet) else self.net

    def made_of(self, module: nn.Module) -> None:
        """What the net of a run of `grow.fit` is made of; UserError where it was another module."""
        summary = self._files.read_summary()
        known = summary["architecture"]
        ends = DataSpec(DATA, known["task"], tuple(known["input_shape"]), known["outputs"])
        template = template_of(module, ends)
        if known["model"].get("module") != template.key:
            raise UserError(
                f"{self.folder} was trained with a module of another structure than the {type(module).__name__} given here"
            )
        self._template = template

    @property
    def task(self) -> str:
        """`classification`, `regression` or `language`."""
        return str(self._state["architecture"]["task"])

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the net's outputs; none where it predicts numbers."""
        return list(self.inputs["classes"]) if self.task == "classification" else []

    def predict(self, x: Any, *, names: bool = True) -> np.ndarray:
        """From raw samples, as the dataset has them, the classes (n,), values (n, outputs), or next bytes (n, tokens).

        :param x: (n, *input_shape), an array or a tensor: it is normalised as the run's training samples were; of a run of
            `dataset=table` also a DataFrame with the table's columns
        :param names: classes by their names; else by their numbers
        """
        outputs = self.outputs(x)
        if self.task == "regression":
            return in_unit(outputs, self.inputs)
        best = outputs.argmax(-1)
        return np.asarray(self.classes)[best] if names and self.task == "classification" else best

    def predict_proba(self, x: Any) -> np.ndarray:
        """The probability of each class (n, classes), or of each next byte (n, tokens, 256)."""
        if self.task == "regression":
            raise UserError(f"{self.folder} learned a regression, which has no probabilities: use predict")
        return torch.from_numpy(self.outputs(x)).double().softmax(-1).numpy()

    def outputs(self, x: Any) -> np.ndarray:
        """What the net puts out for raw samples: logits or values, float32, or float64 of a net of `precision=fp64`."""
        table = self.inputs.get("table") or {}
        if table.get("columns") and hasattr(x, "columns"):
            from grow_cli.data import tables

            x = tables.encode(x.reset_index(drop=True), table, self.classes, "the table", labelled=False).x
        return outputs_of(self.net, self.inputs, x)

    def report(self, output: str | Path | None = None) -> Path:
        """Write the run's page, as `grow report` does, and return where it is."""
        from grow_cli.analysis.report import write_report
        from grow_cli.console import page_name

        return write_report([self.folder], page_name(Path(output) if output else self.folder / "report.html"))

    @property
    def inputs(self) -> dict[str, Any]:
        """How inputs are normalised: `mean` and `std`, tensors; and `white` and `classes` of the data."""
        inputs = self._state.get("inputs")
        if inputs is None:
            raise UserError(
                f"{self.folder} was trained by an older version of grow, whose checkpoints do not store how inputs are "
                "normalised: normalise them yourself and call run.net"
            )
        return dict(inputs)
