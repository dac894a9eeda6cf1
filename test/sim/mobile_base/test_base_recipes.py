"""The mobile base's recipes place its cameras where the simulator has them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.egl")  # before mujoco, whose backend it chooses
pytest.importorskip("mujoco")

from vla_ros.data_types import ConfigError
from vla_ros.schema import load_yaml
from vla_ros.sim.mobile_base.config import BaseCamera
from vla_ros.sim.mobile_base.frames import optical_rotation

CONFIG = Path(__file__).parents[3] / "config"


@pytest.mark.parametrize("name", ["mobile_base_fused", "mobile_base_camera"])
def test_cameras_are_mounted_as_in_the_simulator(name: str) -> None:
    cameras = load_yaml(CONFIG / "sim/mobile_base.yaml", ConfigError)["cameras"]
    overrides = load_yaml(CONFIG / f"training/{name}.yaml", ConfigError)["policy"]["overrides"]
    assert set(overrides["calibration"]) == set(cameras)
    for key, mounting in overrides["calibration"].items():
        assert mounting["translation"] == cameras[key]["position"]
        camera = BaseCamera(**cameras[key])
        turn = np.array(mounting["rotation"])
        # a quaternion and its negative are one rotation
        assert abs(turn @ optical_rotation(camera)) == pytest.approx(1.0, abs=1e-5)
