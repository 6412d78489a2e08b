"""Runs to MLflow: one MLflow run each, found again by its tag."""

from __future__ import annotations

import os

from harness.core.errors import UserError
from harness.interop.exporters.results import Results, require


def export(results: Results, place: str) -> str:
    """Log to the tracking server `place` (a URI; empty: MLFLOW_TRACKING_URI), into the experiment
    `ratchet/SUITE`. Sent twice, a run is updated, not doubled.
    """
    require("mlflow", "MLflow", "mlflow")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    uri = place or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError(
            "no MLflow server is named",
            hint="--to mlflow:http://HOST:PORT, or set MLFLOW_TRACKING_URI",
        )
    run = results.run
    try:
        client = MlflowClient(tracking_uri=uri)
        name = f"ratchet/{run.suite}"
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name)
        found = client.search_runs([experiment], f"tags.`ratchet.run` = '{run.id}'", max_results=1)
        target = found[0] if found else client.create_run(experiment, run_name=run.model)
        target_id = target.info.run_id
        for key, tag in results.tags.items():
            client.set_tag(target_id, key, tag)
        for key, value in results.values:
            client.log_metric(target_id, key, value, step=run.step or 0)
        client.set_terminated(target_id)
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MLflow at {uri} refused the results: {str(error).splitlines()[0]}",
            hint="check the address, and that the server is up",
        ) from None
    return f"MLflow run {target_id} in {name!r} at {uri}"
