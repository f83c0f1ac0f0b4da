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
from grow_cli.loggers.base import Logger, Packaged, sweep_of
from grow_cli.loggers.patient import Patient
from grow_cli.records.flat import flatten
from grow_cli.registry import option

# what a server takes
_BATCH = 100
_LONGEST = 500
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a training calls nobody unasked
    # two minutes, seven times, is MLflow's own: a server that hangs would be waited for that long at the start
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


class MLflow(Patient):
    """A run of MLflow: the config as params, rows as metrics, events and summary as JSON among its artifacts."""

    name = "mlflow"

    def __init__(self, option: MLflowOption, run_folder: Path) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
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
        sweep = sweep_of(self.folder)
        tags = {"grow.sweep": sweep} if sweep else {}
        made = client.create_run(self._experiment(name, artifacts), run_name=run_folder.name, tags=tags)
        run = str(made.info.run_id)
        params = [Param(key, str(value)[:_LONGEST]) for key, value in flatten(self.folder.config()).items()]
        for start in range(0, len(params), _BATCH):
            client.log_batch(run, params=params[start : start + _BATCH])
        return run

    def _experiment(self, name: str, artifacts: str | None) -> str:
        """The id of the experiment, which another run may be making at this moment."""
        client = self._client
        for last in (False, True):
            known = client.get_experiment_by_name(name)
            if known:
                return str(known.experiment_id)
            try:
                return str(client.create_experiment(name, artifact_location=artifacts))
            except Exception:
                if last:
                    raise
        raise AssertionError("the second failure was raised")

    def held(self, name: str) -> int:
        return len(self._client.get_metric_history(self._id, name))

    def send(self, numbers: dict[str, float], step: int, **documents: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])
        for kind, data in documents.items():
            file = f"growth/{data['event']}.json" if kind == "growth" else f"{kind}.json"
            self._client.log_text(self._id, json.dumps(data, indent=1), file)

    def finish(self) -> None:
        self._client.set_terminated(self._id, "FINISHED" if self.finished else "FAILED")


@option("logger", "mlflow")
@dataclass
class MLflowOption(Packaged):
    """Needs the extra `mlflow`."""

    tracking_uri: str | None = key(None, address=True)
    """MLflow's tracking URI (http://…, sqlite:///mlflow.db, a folder); null: $MLFLOW_TRACKING_URI, else a database in
    the run folder."""
    experiment: str = "grow"
    """The experiment that the run belongs to."""

    def start(self, run_folder: Path) -> Logger:
        return MLflow(self, run_folder)
