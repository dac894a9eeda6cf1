"""Facts about the surround cameras: what they see is where CameraInfo and the frames say."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.egl")
pytest.importorskip("mujoco")

from vla_ros.contract import load_contract
from vla_ros.messages.decoders import decode_input
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.sim.mobile_base.config import load_base_config
from vla_ros.sim.mobile_base.model import floor
from vla_ros.sim.mobile_base.robot import MobileBase
from vla_ros.sim.mobile_base.worlds import make_world
from vla_ros.sim.mobile_base.worlds.t_maze import TMaze

pytestmark = pytest.mark.egl

CONFIG_FOLDER = Path(__file__).parents[3] / "config"
CONTRACT = load_contract(CONFIG_FOLDER / "robots" / "mobile_base.yaml")
CONFIG = load_base_config(CONFIG_FOLDER / "sim" / "mobile_base.yaml")
CAMERAS = [spec for spec in CONTRACT.inputs if spec.key in CONFIG.cameras]


def rotated(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    axis, w = quaternion[:3], quaternion[3]
    return vector + 2.0 * np.cross(axis, np.cross(axis, vector) + w * vector)


class Balls(TMaze):
    """A red ball before each camera, and nothing else."""

    def elements(self) -> str:
        places = [(2.5, 0.4), (-0.4, 2.5), (-2.5, -0.4), (0.4, -2.5)]
        balls = "".join(f'<geom type="sphere" pos="{x} {y} .3" size=".15" rgba="1 0 0 1"/>' for x, y in places)
        return floor(8.0) + balls + "".join(self._signs())

    @staticmethod
    def _signs() -> list[str]:
        return [f'<body name="sign_{name}" mocap="true" pos="0 0 -5"/>' for name in ("left", "right", "unlit")]

    def place(self, data: object, rng: np.random.Generator) -> tuple[float, float, float]:
        super().place(data, rng)
        return 0.0, 0.0, 0.0


def test_a_known_point_is_seen_where_camera_info_and_the_frames_project_it() -> None:
    world = Balls()
    world.task = "balls"
    robot = MobileBase(CONTRACT, CONFIG, world)
    try:
        frames = {frame.child: frame for frame in robot.frames()}
        balls = np.array([(2.5, 0.4, 0.3), (-0.4, 2.5, 0.3), (-2.5, -0.4, 0.3), (0.4, -2.5, 0.3)])
        for spec in CAMERAS:
            image = decode_input(spec, deserialize(serialize(robot.message(spec, 0), spec.type), spec.type)).astype(int)
            info = robot.camera_info(spec, 0)
            assert info.header.frame_id == spec.frame
            assert (info.height, info.width) == image.shape[:2]
            frame = frames[str(spec.frame)]
            to_optical = frame.rotation * (-1, -1, -1, 1)
            seen = [rotated(to_optical, ball - frame.position) for ball in balls]
            ahead = next(point for point in seen if point[2] > abs(point[0]))
            u, v, depth = np.asarray(info.k).reshape(3, 3) @ ahead
            red = (image[..., 0] > 150) & (image[..., 1] < 90)
            assert red.sum() >= 4
            row, column = np.argwhere(red).mean(axis=0) + 0.5
            np.testing.assert_allclose([column, row], [u / depth, v / depth], atol=1.0)
    finally:
        robot.close()


def test_the_lit_sign_is_blue_for_left_orange_for_right_and_dark_after_a_second() -> None:
    robot = MobileBase(CONTRACT, CONFIG, make_world("t-maze"))
    front = CAMERAS[0]
    try:
        colors = {}
        for seed in range(6):
            robot.reset(seed)
            for lit, steps in ((True, 1), (False, 110)):
                for _ in range(steps):
                    robot.step()
                image = decode_input(front, robot.message(front, seed * 1000 + robot._steps)).astype(int)
                red, blue = image[..., 0] - image[..., 2], image[..., 2] - image[..., 0]
                colors[robot.world._side, lit] = (int((blue > 80).sum()), int((red > 80).sum()))
        assert set(colors) == {(1, True), (1, False), (-1, True), (-1, False)}
        assert colors[1, True][0] >= 6
        assert colors[1, True][1] == 0
        assert colors[-1, True][1] >= 6
        assert colors[-1, True][0] == 0
        assert colors[1, False] == colors[-1, False] == (0, 0)
    finally:
        robot.close()


def test_by_night_the_cameras_see_nothing_and_by_day_the_red_paint() -> None:
    seen = {}
    for task in ("obstacles-day", "obstacles-night"):
        robot = MobileBase(CONTRACT, CONFIG, make_world(task))
        try:
            images = []
            for seed in range(3):
                robot.reset(seed)
                images += [decode_input(spec, robot.message(spec, seed + 1)).astype(int) for spec in CAMERAS]
            seen[task] = np.stack(images)
        finally:
            robot.close()
    assert seen["obstacles-night"].max() <= 20
    day = seen["obstacles-day"]
    assert ((day[..., 0] > 120) & (day[..., 1] < 60) & (day[..., 2] < 60)).sum() > 20


def test_a_snapshot_is_rendered_as_it_was_taken_although_the_base_drives_on() -> None:
    robot = MobileBase(CONTRACT, CONFIG, make_world("obstacles-day"), 2)
    front = CAMERAS[0]
    try:
        snapshot = robot.snapshot()
        at_once = robot.picture(front, 1, snapshot)
        robot.command(np.array([0.6, 0.5]), 100_000_000)
        for _ in range(50):
            robot.step()
        later = robot.picture(front, 2, snapshot)
        moved = robot.message(front, 3)
        np.testing.assert_array_equal(at_once.data, later.data)
        assert not np.array_equal(at_once.data, moved.data)
    finally:
        robot.close()
