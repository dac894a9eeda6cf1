"""The robot of test_arm.yaml, faked: its tool draws a circle under a camera, and a teleoperator is a little ahead.

Everything is a function of time, and messages are serialised without ROS, so that the same bytes go into bags and
onto topics. Stamps lie off the tick grid, as those of real sensors do.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vla_ros.bags import BagWriter, serialize, typestore
from vla_ros.contract import load_contract

CONTRACT = Path(__file__).resolve().parent / "test_arm.yaml"
JOINTS = ("elbow", "gravity_dummy", "shoulder", "forearm_roll")  # another order than the contract's, and one more
SECOND = 1_000_000_000
LEAD_S = 0.2
STREAMS = {  # topic → rate in Hz, phase, transport delay in ns
    "/overhead/image_raw": (15, 11_000_000, 12_000_000),
    "/arm/joint_states": (50, 3_000_000, 1_000_000),
    "/arm/tool_pose": (50, 7_000_000, 1_000_000),
    "/teleop/target_pose": (30, 2_000_000, 2_000_000),
}


class Sent(NamedTuple):
    topic: str
    type: str
    raw: bytes
    receive_ns: int


def tool(t_s: float) -> np.ndarray[Any, Any]:
    """Pose of the tool: x, y, z in m, quaternion x, y, z, w."""
    angle = 1.3 * t_s
    return np.array(
        [
            0.3 * math.cos(angle),
            0.3 * math.sin(angle),
            0.4,
            0.0,
            0.0,
            math.sin(0.2 * angle % 1),
            math.cos(0.2 * angle % 1),
        ]
    )


def joints(t_s: float) -> dict[str, float]:
    x, y = tool(t_s)[:2]
    return {"shoulder": x, "elbow": y, "forearm_roll": x + y, "gravity_dummy": 9.81}


def image(t_s: float) -> np.ndarray[Any, Any]:
    """RGB [48, 64, 3] with a bright square at the tool."""
    picture = np.full((48, 64, 3), 40, np.uint8)
    x, y = tool(t_s)[:2]
    row, column = round(24 + 60 * y), round(32 + 60 * x)
    picture[max(0, row - 3) : row + 3, max(0, column - 3) : column + 3] = (250, 180, 20)
    return picture


def message(topic: str, stamp_ns: int) -> Sent:
    """The message that a topic carries at a moment."""
    types = typestore().types
    time = types["builtin_interfaces/msg/Time"](stamp_ns // SECOND, stamp_ns % SECOND)
    t_s = stamp_ns / SECOND % 100.0

    def header(frame: str) -> Any:
        return types["std_msgs/msg/Header"](time, frame)

    if topic == "/overhead/image_raw":
        name = "sensor_msgs/msg/Image"
        content = types[name](header("overhead_optical_frame"), 48, 64, "rgb8", 0, 64 * 3, image(t_s).reshape(-1))
    elif topic == "/arm/joint_states":
        name = "sensor_msgs/msg/JointState"
        position = np.array([joints(t_s)[joint] for joint in JOINTS])
        content = types[name](header(""), list(JOINTS), position, np.zeros(4), np.zeros(4))
    else:
        name = "geometry_msgs/msg/PoseStamped"
        pose = tool(t_s + (LEAD_S if topic == "/teleop/target_pose" else 0.0))
        point = types["geometry_msgs/msg/Point"](*pose[:3])
        turn = types["geometry_msgs/msg/Quaternion"](*pose[3:])
        content = types[name](header("arm_base"), types["geometry_msgs/msg/Pose"](point, turn))
    return Sent(topic, name, serialize(content, name), stamp_ns + STREAMS[topic][2])


def messages(start_ns: int, seconds: float) -> Iterator[Sent]:
    """All messages of a span, in the order they are received."""
    sent = [
        message(topic, start_ns + phase_ns + index * SECOND // rate)
        for topic, (rate, phase_ns, _) in STREAMS.items()
        for index in range(int(seconds * rate))
    ]
    yield from sorted(sent, key=lambda item: item.receive_ns)


def write_bag(path: Path, start_ns: int, seconds: float = 3.0, without: tuple[str, ...] = ()) -> Path:
    """Record an episode as the recorder node would, with its contract and episode.json."""
    contract = load_contract(CONTRACT)
    with BagWriter(path) as writer:
        for item in messages(start_ns, seconds):
            if item.topic not in without:
                writer.write(*item)
    shutil.copy(CONTRACT, path / "contract.yaml")
    episode = {
        "contract_hash": contract.hash,
        "robot_type": contract.robot_type,
        "instruction": "draw a circle",
        "success": True,
        "task": "circle",
        "seed": 0,
        "started_ns": start_ns,
    }
    (path / "episode.json").write_text(json.dumps(episode), encoding="utf-8")
    return path
