"""An inference backend: torch in this process, counting what it is asked. A real one runs ONNX, or asks a server."""

from typing import Any

from vla_ros.runtime import LoadedPolicy, LoadRequest, TorchPredictor, warmed


class CountingPredictor(TorchPredictor):
    """Counts predictions."""

    predictions = 0

    def predict(self, *asked: Any) -> Any:
        """Predict."""
        self.predictions += 1
        return super().predict(*asked)


def load(request: LoadRequest) -> LoadedPolicy:
    """Load a policy for the robot of the request."""
    request.check_robot()
    checkpoint = request.load_checkpoint(str(request.path), "cpu")
    predictor = CountingPredictor(checkpoint, seed=0)
    return warmed(LoadedPolicy(request.path, request.robot(), predictor, 1), request.values)
