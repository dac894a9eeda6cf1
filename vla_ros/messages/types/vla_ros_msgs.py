"""vla_ros_msgs: the end-effector action with all that is known of it, and the chunk as it was predicted."""

from array import array
from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import ANY_REPRESENTATION, CARTESIAN, AsRecord, AsSink, MessageType
from vla_ros.data_types import ActionChunk, Array, Command, DecodeError
from vla_ros.messages import encoding, samples
from vla_ros.messages.cartesian import REPRESENTATIONS, motion_of_twist
from vla_ros.messages.frames import check_frame
from vla_ros.messages.message_class import message_class
from vla_ros.messages.samples import Rng


def _recorded(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    check_frame(message.header.frame_id, action.frame, place)
    if message.representation != REPRESENTATIONS[action.representation]:
        named = {code: name for name, code in REPRESENTATIONS.items()}
        got = named.get(int(message.representation), f"unknown ({message.representation})")
        raise DecodeError(f"{place}: the action is a {got}, the contract says {action.representation}")
    motion = motion_of_twist(action, message, place)
    return motion if action.gripper is None else np.append(motion, float(message.gripper))


def _recorded_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, period_ns: int, rng: Rng) -> Any:
    vectors = [samples.vector3(rng), samples.vector3(rng)]
    motion = [REPRESENTATIONS[action.representation], *vectors, float(rng.uniform(-1, 1))]
    header = samples.header(stamp_ns, action.frame)
    return samples.new(record.type, header, *motion, samples.duration_of(period_ns), samples.time_of(stamp_ns), 0, 0)


def _command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    spec, action = contract.action, command.action
    rotation = encoding.rotation_in(contract, action, "rotation_vector")
    if rotation is None:
        # No rotation of a motion is zero; an orientation that nobody decided on is "leave as it is", NaN
        rotation = np.full(3, np.nan if spec.representation == "pose" else 0.0)
    gripper = spec.gripper_index
    return message_class(sink.type)(
        header=encoding.header_message(command.effect_ns, spec.frame),
        representation=REPRESENTATIONS[spec.representation],
        linear=encoding.vector3_message(action[:3]),
        angular=encoding.vector3_message(rotation),
        gripper=float("nan") if gripper is None else float(action[gripper]),
        period=encoding.duration_message(command.period_ns),
        observation_stamp=encoding.time_message(command.observation_stamp_ns),
        chunk_id=command.chunk_id,
        chunk_index=command.chunk_index,
    )


def _chunk(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    horizon, action_dim = chunk.actions_HA.shape
    return message_class(sink.type)(
        header=encoding.header_message(chunk.observation_stamp_ns, contract.action.frame),
        chunk_id=chunk.chunk_id,
        period=encoding.duration_message(chunk.period_ns),
        horizon=horizon,
        action_dim=action_dim,
        names=list(contract.action.names),
        actions=array("d", chunk.actions_HA.ravel().tolist()),  # assigning a numpy array checks every element
        inference_time=encoding.duration_message(chunk.inference_ns),
    )


ROWS = (
    MessageType(
        "vla_ros_msgs/msg/EndEffectorAction",
        "Motion and gripper with the moment it takes effect, its frame and the observation that it was decided on.",
        as_record=AsRecord(CARTESIAN, _recorded, _recorded_sample, carries="all"),
        as_sink=AsSink(CARTESIAN, _command, carries="all"),
    ),
    MessageType(
        "vla_ros_msgs/msg/ActionChunk",
        "Every step of a prediction, before the safety filter: moves nothing, a dry run publishes it too.",
        as_sink=AsSink(ANY_REPRESENTATION, _chunk, carries="all", whole_chunk=True, is_telemetry=True),
    ),
)
