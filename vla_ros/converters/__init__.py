"""Bags → datasets, through the node's own decoders and buffers. Works without ROS and without torch."""

from vla_ros.converters.contracts import own_contract
from vla_ros.converters.convert import convert_bags
from vla_ros.converters.report import ConversionReport, EpisodeReport, LeftOut, StreamReport

__all__ = ["ConversionReport", "EpisodeReport", "LeftOut", "StreamReport", "convert_bags", "own_contract"]
