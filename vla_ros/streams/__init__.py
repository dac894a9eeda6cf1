"""Serialised messages → the observation of a tick, and the recorded action, for node, converter and replay alike.

No ROS and no clock here: how bytes become a message is passed in as a function.
"""

from vla_ros.streams.action_stream import ActionStream
from vla_ros.streams.late_samples import LateSample, LateSamples
from vla_ros.streams.observation_pipeline import Assembled, MissingInput, ObservationPipeline
from vla_ros.streams.stream import Deserialize, StreamStatus

__all__ = [
    "ActionStream",
    "Assembled",
    "Deserialize",
    "LateSample",
    "LateSamples",
    "MissingInput",
    "ObservationPipeline",
    "StreamStatus",
]
