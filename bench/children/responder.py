"""The cheapest thing that answers an image with a command: a raw subscriber, a bare forward pass, a publisher.

The baseline of the policy node's latency. Decodes nothing, checks nothing, and runs the model on one fixed input.
``python -m bench.children.responder CONTRACT``.
"""
# ruff: noqa: TID251 (a process of its own that speaks ROS)

import os
import sys
from dataclasses import replace
from typing import Any

import rclpy
import torch
from builtin_interfaces.msg import Time
from rclpy.signals import SignalHandlerOptions

from bench.children.ended import ended_by_signal
from bench.policy import make_checkpoint
from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS
from vla_ros.messages.encoders import message_class
from vla_ros.messages.executor import make_executor, spin_until
from vla_ros.messages.qos import to_profile
from vla_ros.messages.stamps import header_stamp_ns
from vla_ros.runtime.loading import blank_frame, set_torch_threads
from vla_ros_msgs.msg import EndEffectorAction

_WARM_UP_RUNS = 3


def main() -> int:
    """Answer until a signal."""
    ended = ended_by_signal()
    set_torch_threads(0, len(os.sched_getaffinity(0)))
    checkpoint = make_checkpoint(sys.argv[1], "once")
    contract, policy = checkpoint.contract, checkpoint.policy
    observation = checkpoint.processors.observation(_raw_observation(contract))
    for _ in range(_WARM_UP_RUNS):
        policy.predict_action_chunk(observation)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("responder")
    sink, source = contract.action.sinks[0], contract.inputs[0]
    publisher = node.create_publisher(EndEffectorAction, sink.topic, to_profile(sink.qos))

    def answer(raw: bytes) -> None:
        stamp_ns = header_stamp_ns(raw)
        with torch.inference_mode():
            policy.predict_action_chunk(observation)
        stamp = Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)
        command = EndEffectorAction(observation_stamp=stamp, chunk_id=1)
        command.header.stamp = stamp
        publisher.publish(command)

    qos = to_profile(replace(source.qos, depth=1))  # the newest image: a queue of old ones would be latency of its own
    node.create_subscription(message_class(source.type), source.topic, answer, qos, raw=True)
    executor = make_executor()
    executor.add_node(node)
    spin_until(executor, ended.is_set)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


def _raw_observation(contract: RobotContract) -> dict[str, Any]:
    keys = tuple(key for key in contract.features if key != contract.action.key)
    frame = blank_frame(contract, keys)
    return {key: value[None, None] for key, value in frame.values.items()}


if __name__ == "__main__":
    sys.exit(main())
