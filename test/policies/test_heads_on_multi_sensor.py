"""Every action head on the trunk of several sensors: it is a vector of features like any other."""

import pytest
import torch

from vla_ros.networks.heads import build_action_head
from vla_ros.networks.sensors import LstmWindow, VectorToken
from vla_ros.policies.multi_sensor.model import MultiSensorVLA
from vla_ros.registry import ACTION_HEADS

SMALL = {name: {"width": 16, "n_heads": 2} for name in ("diffusion", "flow", "transformer")}


@pytest.mark.parametrize("name", ACTION_HEADS.built_in)
def test_any_head_learns_through_the_fusion_of_sensors_and_predicts(name):
    torch.manual_seed(0)
    encoders = {"imu": LstmWindow((6, 6), 16), "state": VectorToken((4,), 16)}
    trunk = MultiSensorVLA(encoders, width=16, n_heads=2, n_fusion_layers=1, head=torch.nn.Identity())
    head = build_action_head(name, trunk.feature_dim, 3, 5, **SMALL.get(name, {}))
    observation = {"imu": torch.randn(2, 6, 6), "state": torch.randn(2, 4)}
    actions, is_pad = torch.rand(2, 5, 3) * 2 - 1, torch.zeros(2, 5, dtype=torch.bool)
    head.compute_loss(trunk(observation), actions, is_pad).loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trunk.encoders[1].parameters())
    assert head.predict(trunk.eval()(observation)).shape == (2, 5, 3)
