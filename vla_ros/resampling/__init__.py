"""Stamped samples → the value at tick t, in integer nanoseconds. No clock, no thread, no ROS, no decoding.

Everything here is a function of the samples that were pushed and of the tick that is asked for, so a live node and a
converter that push the same samples in the same order get the same values.
"""

from vla_ros.resampling.align import Blend, Gap, ValueOf, hold, interpolate, linear, nearest, window
from vla_ros.resampling.buffer import SampleBuffer, Stamped

__all__ = [
    "Blend",
    "Gap",
    "SampleBuffer",
    "Stamped",
    "ValueOf",
    "hold",
    "interpolate",
    "linear",
    "nearest",
    "window",
]
