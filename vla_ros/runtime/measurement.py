"""Where the robot is now: the newest samples of the inputs that the contract names for it. No filter, no clock."""

from dataclasses import replace

from vla_ros.contract import RobotContract, measured_sources
from vla_ros.contract.measurement import RELATIVE
from vla_ros.data_types import Array, DecodeError
from vla_ros.safety import Measured, measurement_from
from vla_ros.streams import ObservationPipeline


class MeasuredRobot:
    """Reads the measured state from a pipeline.

    Args:
        contract: The robot.
        is_needed: Whether its limits use the measured state; otherwise nothing is read.

    Attributes:
        keys: Features that must be observed for it.
    """

    def __init__(self, contract: RobotContract, *, is_needed: bool) -> None:
        self._sources = measured_sources(contract)
        self._inputs = {index: contract.inputs[index] for index in self._sources.inputs} if is_needed else {}
        self.keys = {spec.key for spec in self._inputs.values()}
        self._pipeline: ObservationPipeline | None = None
        self._streams: dict[int, int] = {}  # index in the contract → index in the pipeline

    def read_from(self, pipeline: ObservationPipeline) -> None:
        """Take the samples from this pipeline from now on."""
        self._pipeline = pipeline
        self._streams = {index: pipeline.specs.index(spec) for index, spec in self._inputs.items()}

    def now(self) -> Measured | None:
        """Return the newest measurement; what no sample says is not known in it. None where none is needed."""
        if self._pipeline is None or not self._streams:
            return None
        values: dict[int, Array] = {}
        stamps_ns: dict[int, int] = {}
        for index, stream in self._streams.items():
            newest = _readable(self._pipeline, stream)
            if newest is not None:
                stamps_ns[index], values[index] = newest
        return measurement_from(self._sources, values, stamps_ns)


def without_following_error(contract: RobotContract) -> RobotContract:
    """Return the contract of a robot that does not execute the commands, so that following them is no matter.

    The reference of a pose or of joints then goes wherever the commands lead. That of a displacement or twist stays
    near the measurement, as it does by default.
    """
    relative = contract.action.representation in RELATIVE
    free = None if relative else float("inf")
    limits = replace(contract.action.limits, max_following_error=free, max_angular_following_error=free)
    return replace(contract, action=replace(contract.action, limits=limits))


def _readable(pipeline: ObservationPipeline, stream: int) -> tuple[int, Array] | None:
    try:
        return pipeline.newest(stream)
    except DecodeError:
        return None
