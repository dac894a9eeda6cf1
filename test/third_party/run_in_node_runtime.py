"""Run with the example package on the path, in a fresh process: a checkpoint in the policy node's runtime, every way.

Prints JSON: how each inference backend loads it, and what one observation makes of it.
"""

import json
import sys
from pathlib import Path

import numpy as np

from vla_ros.checkpoint import load_checkpoint
from vla_ros.data_types import Observation
from vla_ros.nodes.policy.policy_parameters import POLICY_PARAMETERS
from vla_ros.runtime import load_policy


def main(checkpoint: str) -> None:
    """Load and predict with each backend."""
    defaults = {row.name: row.default for row in POLICY_PARAMETERS}
    choices = next(row.choices for row in POLICY_PARAMETERS if row.name == "inference")
    values = {**defaults, "checkpoint": checkpoint, "seed": 0, "warm_up_runs": 1, "torch_threads": 1}
    chunks, predictors = {}, {}
    for backend in choices:
        loaded = load_policy({**values, "inference": backend}, load_checkpoint)
        features = {key: loaded.contract.feature(key) for key in loaded.predictor.spec.input_keys}
        blank = {key: np.full((1, *spec.shape), 0.3).astype(spec.dtype) for key, spec in features.items()}
        observation = Observation(0, blank, "go to the mark", np.zeros(1, bool))
        chunks[backend] = loaded.predictor.predict(observation, np.zeros(1, bool)).tolist()
        predictors[backend] = type(loaded.predictor).__name__
        loaded.predictor.close()
    print(json.dumps({"chunks": chunks, "predictors": predictors}))


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
