"""Bytes of every type, damaged in every way that we can think of: a value of the contract's form or a DecodeError.

`VLA_ROS_FUZZ` sets how many damaged messages of each type are tried; their seeds are fixed.
"""

import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract
from vla_ros.contract.types import ACTION_SOURCES, INPUT_TYPES, has_header
from vla_ros.data_types import DecodeError
from vla_ros.messages import decode_action, decode_input
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.messages.samples import make_example_action, make_example_message
from vla_ros.streams import ObservationPipeline

MUTATIONS = int(os.environ.get("VLA_ROS_FUZZ", "400"))
STAMP_NS = 1_000_000_000
MAX_GROWTH_MB = 64
ARRAY = "std_msgs/msg/Float64MultiArray"
TEXT = "std_msgs/msg/String"
INTEGERS = (0, 1, 2, 7, 255, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS = (float("nan"), float("inf"), -float("inf"), 1e39, -1e308, 5e-324, -0.0)
JOINT_ACTION = {
    "representation": "joint_position",
    "rotation": "none",
    "names": ["a", "b"],
    "units": ["rad", "rad"],
    "gripper": None,
}
POSE_NAMES = ["x", "y", "z", "qx", "qy", "qz", "qw"]
POSE_ACTION = {
    "representation": "pose",
    "rotation": "quaternion",
    "names": POSE_NAMES,
    "units": ["m"] * 3 + ["1"] * 4,
    "gripper": None,
}
TWIST_ACTION = {
    "representation": "twist",
    "names": ["vx", "vy", "vz", "wx", "wy", "wz"],
    "units": ["m/s"] * 3 + ["rad/s"] * 3,
    "gripper": None,
}
ACTIONS: dict[str, dict[str, Any]] = {
    "vla_ros_msgs/msg/EndEffectorAction": {},
    "geometry_msgs/msg/TwistStamped": TWIST_ACTION,
    "geometry_msgs/msg/PoseStamped": POSE_ACTION,
    "sensor_msgs/msg/JointState": JOINT_ACTION,
    ARRAY: JOINT_ACTION,
    "trajectory_msgs/msg/JointTrajectory": JOINT_ACTION,
    "geometry_msgs/msg/Twist": TWIST_ACTION,
    "geometry_msgs/msg/PoseWithCovarianceStamped": POSE_ACTION,
    "nav_msgs/msg/Odometry": TWIST_ACTION,
    "nav_msgs/msg/Path": POSE_ACTION,
    "std_msgs/msg/Float32": {**JOINT_ACTION, "names": ["a"], "units": ["rad"]},
    "std_msgs/msg/Float64": {**JOINT_ACTION, "names": ["a"], "units": ["rad"]},
}

Decode = Callable[[Any], np.ndarray]


def damaged(raw: bytes, rng: Random) -> bytes:
    """Return bytes with one to four wounds: most in the first and last 200 bytes, where the lengths are."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        whole, near = len(data), min(len(data), 200)
        at = rng.choice((rng.randrange(near + 1), rng.randrange(near + 1), whole - rng.randrange(near + 1)))
        at = rng.choice((at, at, rng.randrange(whole + 1)))
        wound = rng.randrange(9)
        if wound == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif wound == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif wound == 2:
            place = 4 + (at - 4) // 4 * 4
            data[place : place + 4] = struct.pack("<I", rng.choice((*INTEGERS, len(raw), len(raw) // 8)))
        elif wound == 3:
            place = 4 + (at - 4) // 8 * 8
            data[place : place + 8] = struct.pack("<d", rng.choice(FLOATS))
        elif wound == 4:
            place = 4 + (at - 4) // 4 * 4
            with np.errstate(over="ignore"):
                data[place : place + 4] = np.float32(rng.choice(FLOATS)).tobytes()
        elif wound == 5:
            del data[at : at + rng.choice((1, 4, 8, len(data)))]
        elif wound == 6:
            data[at:at] = bytes(rng.choice((1, 4, 8, 1000)))
        elif wound == 7:
            data[at:at] = data[max(at - 12, 0) : at]
        else:
            data[0:2] = rng.choice((b"\0\0", b"\0\1", b"\0\3", b"\1\1", b"\0\7"))
    return bytes(data)


def outcome(read: Callable[[bytes], Any], decode: Decode, raw: bytes) -> np.ndarray | None:
    """Return the value of a message, None where it was refused in a sentence as errors should have."""
    try:
        message = read(raw)
    except DecodeError as reason:
        text = str(reason)
        assert "do not hold a" in text
    else:
        try:
            return decode(message)
        except DecodeError as reason:
            text = str(reason)
            assert text.startswith("/")  # the topic
            assert "cannot be decoded (" not in text, "a decoder met something that it did not foresee"
    assert len(text) < 600
    assert text.isprintable()
    return None


class PeakMemory:
    """How much memory this process needed beyond what it had, in MB; 0 where the kernel does not say."""

    def __enter__(self) -> "PeakMemory":
        self._can = os.access("/proc/self/clear_refs", os.W_OK)
        if self._can:
            Path("/proc/self/clear_refs").write_text("5")
            self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.growth_mb = (self._read("VmHWM") - self._before) / 1024 if self._can else 0.0

    @staticmethod
    def _read(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1])


def fuzz(raw: bytes, type_name: str, decode: Decode, check: Callable[[np.ndarray], None]) -> None:
    from_rclpy: Callable[[bytes], Any] | None = None
    try:
        from vla_ros.messages import rclpy_deserialize
    except ModuleNotFoundError:
        pass
    else:
        from_rclpy = lambda data: rclpy_deserialize.deserialize(data, type_name)
        from_rclpy(raw)  # imports the message package, which warns
    from_bag = lambda data: deserialize(data, type_name)
    rng = Random(type_name)
    values = 0
    with warnings.catch_warnings(), PeakMemory() as memory:
        warnings.simplefilter("error")
        for number in range(MUTATIONS):
            data = damaged(raw, rng) if number else raw
            value = outcome(from_bag, decode, data)
            if value is not None:
                check(value)
                values += 1
            if from_rclpy is not None:
                live = outcome(from_rclpy, decode, data)
                assert (live is None) == (value is None), data
                if live is not None:
                    np.testing.assert_array_equal(live, value)
    assert values > 1, "the wounds are so deep that the decoder is never reached"
    assert memory.growth_mb < MAX_GROWTH_MB


NUMBERS = sorted(set(INPUT_TYPES) - {"std_msgs/msg/String"})  # an instruction has a test of its own


@pytest.mark.parametrize("type_name", NUMBERS)
def test_a_damaged_input_is_a_value_of_the_contract_s_form_or_refused(type_name: str, make_contract: Any) -> None:
    spec = make_contract(type_name).inputs[0]
    shape = spec.shape[1:] if spec.window is not None else spec.shape

    def check(value: np.ndarray) -> None:
        assert value.shape == shape
        assert value.dtype == (np.uint8 if spec.image is not None else np.float32)
        if spec.points is not None:  # rows of NaN where there is no point
            value = value[~np.isnan(value).all(axis=-1)]
        assert np.isfinite(value).all()

    raw = serialize(make_example_message(spec, STAMP_NS), type_name)
    fuzz(raw, type_name, lambda message: decode_input(spec, message), check)


def action_contract(make_contract: Any, type_name: str) -> RobotContract:
    alignment = {} if has_header(type_name) else {"timeline": "receive"}
    record = {"topic": "/demonstration", "type": type_name, "max_age_s": 0.1, "alignment": alignment}
    record |= {"names": ["a"]} if "/Float" in type_name and type_name != ARRAY else {}
    sinks = [{"topic": "/command", "type": ARRAY}]
    contract: RobotContract = make_contract(action={**ACTIONS[type_name], "record": record, "sinks": sinks})
    return contract


@pytest.mark.parametrize("type_name", ACTION_SOURCES)
def test_a_damaged_action_is_finite_or_refused(type_name: str, make_contract: Any) -> None:
    action = action_contract(make_contract, type_name).action

    def check(value: np.ndarray) -> None:
        assert value.shape == (len(action.names),)
        assert value.dtype == np.float64
        assert np.isfinite(value.astype(np.float32)).all()

    raw = serialize(make_example_action(action, STAMP_NS), type_name)
    fuzz(raw, type_name, lambda message: decode_action(action, type_name, message), check)


@pytest.mark.parametrize("type_name", NUMBERS)
def test_a_damaged_message_is_at_most_a_missing_input(type_name: str, make_contract: Any) -> None:
    contract = make_contract(type_name)
    spec = contract.inputs[0]
    if spec.image is None and spec.points is None and spec.window is None:
        contract = make_contract(type_name, alignment={"method": "interpolate", "timeline": "receive"})
    pipeline = ObservationPipeline(contract, deserialize)
    rng = Random(type_name)
    frames = 0
    for number in range(MUTATIONS // 2):
        for stamp_ns in range(STAMP_NS - 50_000_000, STAMP_NS + 10_000_001, 10_000_000):
            raw = serialize(make_example_message(spec, stamp_ns), type_name)
            pipeline.push(0, damaged(raw, rng) if number and rng.random() < 0.3 else raw, stamp_ns)
        assembled = pipeline.assemble(STAMP_NS)
        frames += assembled.frame is not None
        for value in (assembled.frame.values if assembled.frame else {}).values():
            assert spec.points is not None or np.isfinite(value).all()
        for item in assembled.missing:
            assert str(item).isprintable()
        pipeline.clear()
    assert 0 < frames < MUTATIONS // 2


def test_a_damaged_instruction_leaves_the_one_before(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(), deserialize, keys=["task"])
    raw = serialize(typestore().types[TEXT]("push the puck"), TEXT)
    rng = Random(0)
    reasons: list[str] = []
    for number in range(MUTATIONS):
        pipeline.push(0, raw, STAMP_NS)
        try:
            pipeline.push(0, damaged(raw, rng), STAMP_NS + number)
        except DecodeError as reason:
            reasons.append(str(reason))
            assert pipeline.latched("task").newest == "push the puck"
        assert pipeline.latched("task").newest is not None
    assert 0 < len(reasons) < MUTATIONS
    assert all(reason.startswith(f"{pipeline.specs[0].topic} (task): ") for reason in reasons)
