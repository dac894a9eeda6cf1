"""Facts about the simulation's configuration: what is shipped is valid, what is wrong is named."""

from pathlib import Path
from typing import Any

import pytest

from vla_ros.contract import load_contract
from vla_ros.data_types import ConfigError
from vla_ros.sim.metaworld.config import load_sim_config, parse_sim_config

CONFIG = Path(__file__).parents[3] / "config"


def test_the_shipped_simulation_has_a_source_for_every_input_of_its_contract() -> None:
    config = load_sim_config(CONFIG / "sim" / "metaworld_sawyer.yaml")
    for spec in load_contract(CONFIG / "robots" / "metaworld_sawyer.yaml").inputs:
        if spec.image is not None:
            camera = config.cameras[spec.key]
            assert (camera.height, camera.width) == (spec.image.height, spec.image.width)
        if spec.points is not None:
            lidar = config.lidars[spec.key]
            assert len(lidar.elevations_deg) * lidar.azimuths == spec.points.count
        if spec.type.endswith("JointState"):
            assert set(spec.names) <= set(config.joints)


CAMERA = {"camera": "corner2", "height": 8, "width": 8}
LIDAR = {"position": [0.0, 0.0, 1.0], "elevations_deg": [0.0], "azimuths": 4}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"cameras": {"a": {**CAMERA, "fov": 3}}}, "cameras.a.fov is not a field here"),
        ({"cameras": {"a": {**CAMERA, "fovy_deg": 180.0}}}, "cameras.a.fovy_deg must be below 180, got 180"),
        ({"cameras": {"a": {**CAMERA, "target": [1.0]}}}, "cameras.a.target expected 3 entries"),
        ({"cameras": {"a": {"camera": "corner2", "height": 0, "width": 8}}}, "cameras.a.height must be at least 1"),
        ({"joints": {"elbow": 3}}, "joints.elbow expected str, got 3"),
        ({"lidars": {"l": {**LIDAR, "azimuths": 0}}}, "lidars.l.azimuths must be at least 1"),
        ({"lidars": {"l": {**LIDAR, "max_range_m": 0.01}}}, "lidars.l.max_range_m 0.01 is not above min_range_m 0.05"),
        ({"lidars": {"l": {**LIDAR, "elevations_deg": []}}}, "lidars.l.elevations_deg must name at least one ring"),
        ({"camera": {}}, "Did you mean 'cameras'?"),
        ([], "expected a mapping"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(content: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_sim_config(content, "sim.yaml")
    assert str(error.value).startswith("sim.yaml: ")
    assert says in str(error.value)
