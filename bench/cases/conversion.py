"""Case 7: how fast a bag becomes a dataset."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.arms import Bench
from bench.cases.case import Case, Measured
from bench.contracts import CAMERAS, COMMAND, JOINTS, write_contract
from bench.messages import IMAGE_SIZE, image_message, scene
from bench.results import Figure, Ratio
from bench.statistics import interleaved, ratios
from vla_ros.bags import BagWriter, bag_deserializer, read_messages
from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import NANOSECONDS
from vla_ros.messages.samples import make_example_action, make_example_message

FPS, JOINT_RATE_HZ = 20, 100
_BEGIN_NS = 1_700_000_000 * NANOSECONDS


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Convert one bag with each image storage, and read it without converting."""
    from vla_ros.converters import convert_bags

    contract_file = write_contract(
        bench.folder / "conversion.yaml", (CAMERAS[0], JOINTS), fps=FPS, control_rate_hz=FPS, image_size=IMAGE_SIZE
    )
    contract = load_contract(contract_file)
    bag = write_bag(bench.folder / "conversion_bag", contract, seconds)

    def convert(source: Path = bag, **options: Any) -> float:
        root = bench.folder / "conversion_dataset"
        shutil.rmtree(root, ignore_errors=True)
        begin_s = time.monotonic()
        report = convert_bags([source], contract, root, progress=False, **options)
        spent_s = time.monotonic() - begin_s
        shutil.rmtree(root)
        return sum(episode.frames for episode in report.episodes) / spent_s

    arms: dict[str, Callable[[], float]] = {
        "read": lambda: _read(bag),
        "av1": lambda: convert(image_storage="video", codec="av1"),
        "png": lambda: convert(image_storage="png"),
    }
    short = write_bag(bench.folder / "conversion_warm_up_bag", contract, 1.0)
    for storage in ("png", "video"):  # imports, and message types parsed once per process, are not what is compared
        convert(short, image_storage=storage)
    _read(short)
    speed = interleaved(arms, repeats)
    shutil.rmtree(bag)
    shutil.rmtree(short)
    return Measured(
        (
            Ratio("AV1 ÷ PNG", "frames per second written as AV1 video ÷ as PNG", ratios(speed["av1"], speed["png"])),
            Ratio("AV1 ÷ reading", "the same ÷ reading and deserialising the bag", ratios(speed["av1"], speed["read"])),
            Ratio("PNG ÷ reading", "PNG ÷ reading and deserialising the bag", ratios(speed["png"], speed["read"])),
        ),
        (
            Figure("AV1", "frames/s", speed["av1"]),
            Figure("PNG", "frames/s", speed["png"]),
            Figure("reading alone", "frames/s", speed["read"]),
        ),
        ("One 640×480 camera and joints; both passes over the bag, statistics and the final check are included.",),
    )


def write_bag(path: Path, contract: RobotContract, seconds: float) -> Path:
    """Record a moving scene, joints and an action without ROS; replaces an older bag."""
    shutil.rmtree(path, ignore_errors=True)
    joints = next(spec for spec in contract.inputs if spec.topic == JOINTS)
    with BagWriter(path) as writer:
        for index in range(int(seconds * JOINT_RATE_HZ)):
            stamp_ns = _BEGIN_NS + index * NANOSECONDS // JOINT_RATE_HZ
            writer.write_message(JOINTS, joints.type, make_example_message(joints, stamp_ns, index), stamp_ns)
            if index * FPS % JOINT_RATE_HZ == 0:
                picture = image_message(stamp_ns, scene(index / JOINT_RATE_HZ))
                writer.write_message(CAMERAS[0], "sensor_msgs/msg/Image", picture, stamp_ns)
                action = make_example_action(contract.action, stamp_ns, index)
                writer.write_message(COMMAND, contract.action.record.type, action, stamp_ns)
    return path


def _read(bag: Path) -> float:
    """Return images per second of reading and deserialising everything once."""
    begin_s = time.monotonic()
    deserialize = bag_deserializer(bag)
    images = 0
    for message in read_messages(bag):
        content = deserialize(message.raw, message.type)
        if message.topic == CAMERAS[0]:
            images += 1
            np.frombuffer(content.data, dtype=np.uint8)
    return images / (time.monotonic() - begin_s)


CASE = Case("conversion", "bag → dataset", 6.0, 3, run)
