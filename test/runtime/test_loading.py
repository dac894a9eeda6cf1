"""A policy is warmed up on what it will be told: one that knows its instruction then needs no language model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from vla_ros.contract import load_contract  # noqa: E402
from vla_ros.policies.base import Policy, PolicyConfig, PolicyOutput  # noqa: E402
from vla_ros.runtime.loading import blank_frame, load_policy  # noqa: E402

CONTRACT = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
STATE = "observation.state"


class Still(Policy):
    """Predicts no motion."""

    name = "still"
    config_class = PolicyConfig

    def compute_loss(self, batch: Any, generator: Any = None) -> Any:
        raise NotImplementedError

    def predict_action_chunk(self, observation: Any, state: Any = None, generator: Any = None) -> PolicyOutput:
        return PolicyOutput(torch.zeros(1, 1, 4))


class Listening:
    """Processors that remember the instructions they were given."""

    inputs = (STATE,)

    def __init__(self) -> None:
        self.heard: list[str] = []

    def observation(self, raw: dict[str, Any]) -> dict[str, Any]:
        self.heard += raw["task"]
        return {}

    def actions(self, actions_BHA: Any, raw: dict[str, Any]) -> Any:
        return actions_BHA


@pytest.mark.parametrize(("parameter", "heard"), [("", CONTRACT.instruction.default), ("pull", "pull")])
def test_the_warm_up_hears_the_instruction_that_is_to_come(parameter: str, heard: str) -> None:
    config = PolicyConfig(inputs={STATE: CONTRACT.feature(STATE)}, action=CONTRACT.feature("action"))
    processors = Listening()
    checkpoint: Any = SimpleNamespace(
        path=Path("here"), policy=Still(config), processors=processors, contract=CONTRACT, check_robot=lambda _: None
    )
    values = {"checkpoint": "here", "device": "cpu", "contract": "", "seed": 0, "warm_up_runs": 2}
    load_policy({**values, "instruction": parameter}, lambda *_: checkpoint)
    assert processors.heard == [heard, heard]


def test_a_blank_frame_has_the_goal_where_the_robot_has_one() -> None:
    frame = blank_frame(CONTRACT, (STATE, "goal.image"))
    assert {key: value.shape for key, value in frame.values.items()} == {STATE: (4,), "goal.image": (84, 84, 3)}


def test_a_blank_frame_turns_nothing_instead_of_being_no_rotation() -> None:
    arm = load_contract(Path(__file__).parents[1] / "robots/test_arm.yaml")
    frame = blank_frame(arm, ("observation.tool",))
    assert frame.values["observation.tool"].tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
