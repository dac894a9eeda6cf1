"""Parts that know the order of frames: padding, history, memory."""

from vla_ros.networks.temporal.history_encoder import HistoryEncoder
from vla_ros.networks.temporal.memory_buffer import Memory, MemoryBuffer

__all__ = ["HistoryEncoder", "Memory", "MemoryBuffer"]
