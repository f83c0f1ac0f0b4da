"""`logger=mlflow`."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grow_cli.keys import key
from grow_cli.loggers.base import Logger, Packaged, Remote, numbers
from grow_cli.records.flat import flatten
from grow_cli.registry import option

# what a server takes
_BATCH = 100
_LONGEST = 500


class MLflow(Remote):
    """A run of MLflow: the config as params, rows as metrics, events and summary as JSON among its artifacts."""

    name = "mlflow"

    def __init__(self, option: MLflowOption, run_folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a training calls nobody unasked
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # how it makes its tables
        super().__init__(run_folder / "mlflow")
        own = (run_folder / "mlflow").absolute()
        given = option.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=given or f"sqlite:///{own / 'mlflow.db'}")
        if "id" in self.sent:
            self._client.update_run(self.sent["id"], status="RUNNING")
        else:
            self.note(id=self._new_run(option.experiment, run_folder, None if given else (own / "artifacts").as_uri()))
        self._id = self.sent["id"]

    def _new_run(self, name: str, run_folder: Path, artifacts: str | None) -> str:
        from mlflow.entities import Param

        client = self._client
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name, artifact_location=artifacts)
        run = str(client.create_run(experiment, run_name=run_folder.name).info.run_id)
        from grow_cli.records.folder import RunFolder

        params = [Param(key, str(value)[:_LONGEST]) for key, value in flatten(RunFolder(run_folder).config()).items()]
        for start in range(0, len(params), _BATCH):
            client.log_batch(run, params=params[start : start + _BATCH])
        return run

    def send_row(self, numbers: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def send_event(self, event: dict[str, Any], step: int) -> None:
        self.send_row({"growth/units_added": event["units_added"]}, step)
        self._client.log_text(self._id, json.dumps(event, indent=1), f"growth/{event['event']}.json")

    def send_summary(self, summary: dict[str, Any], step: int) -> None:
        self.send_row({f"final/{name}": value for name, value in numbers(summary).items()}, step)
        self._client.log_text(self._id, json.dumps(summary, indent=1), "summary.json")

    def finish(self) -> None:
        self._client.set_terminated(self._id, "FINISHED" if self.finished else "FAILED")


@option("logger", "mlflow")
@dataclass
class MLflowOption(Packaged):
    """Needs the extra `mlflow`."""

    tracking_uri: str | None = key(None, address=True)
    """Where runs are kept, as MLflow writes it (http://…, sqlite:///mlflow.db, a folder); null: $MLFLOW_TRACKING_URI,
    else a database in the run folder."""
    experiment: str = "grow"
    """What the run is kept under."""

    def start(self, run_folder: Path) -> Logger:
        return MLflow(self, run_folder)
