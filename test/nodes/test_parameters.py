"""A parameter is one row; declaration, validation and documentation follow from it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

from vla_ros.data_types import ConfigError
from vla_ros.nodes.common.parameters import ParameterRow, declare_parameters, parameter_table
from vla_ros.nodes.policy.policy_parameters import POLICY_PARAMETERS

ROOT = Path(__file__).parents[2]
ROWS = (
    ParameterRow("rate", 20.0, "How fast.", unit="Hz", minimum=1, maximum=100),
    ParameterRow("mode", "latest", "Which way.", choices=("latest", "newest")),
    ParameterRow("loud", False, "Whether to shout.", read_only=False),
)


class FakeNode:
    def __init__(self, **given: Any) -> None:
        self._parameter_overrides = {name: SimpleNamespace(value=value) for name, value in given.items()}
        self.declared: dict[str, Any] = {}

    def declare_parameter(self, name: str, default: Any, descriptor: Any) -> None:
        self.declared[name] = (default, descriptor)


def test_given_values_win_over_defaults() -> None:
    node = FakeNode(rate=30.0, use_sim_time=True)
    assert declare_parameters(node, ROWS) == {"rate": 30.0, "mode": "latest", "loud": False}
    assert node.declared["rate"][1].read_only
    assert not node.declared["loud"][1].read_only


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rate": 20}, "'rate' must be a float, got 20; write 20.0"),
        ({"rate": 0.5}, "'rate' must be at least 1, got 0.5"),
        ({"rate": 500.0}, "'rate' must be at most 100, got 500.0"),
        ({"mode": "latets"}, "'latets' is not one of latest, newest. Did you mean 'latest'?"),
        ({"loud": 1}, "'loud' must be a bool, got 1"),
        ({"moed": "latest"}, "'moed' is not one of this node. Did you mean 'mode'?"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declare_parameters(FakeNode(**given), ROWS)
    assert words in str(caught.value)


def test_the_documented_parameters_are_those_of_the_table() -> None:
    text = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert parameter_table(POLICY_PARAMETERS) in text, "run scripts/generate_parameter_docs.py"


def test_the_params_file_names_every_parameter_with_its_default() -> None:
    content = yaml.safe_load((ROOT / "config/policy_node.yaml").read_text(encoding="utf-8"))
    given = dict(content["policy_node"]["ros__parameters"])
    assert given.pop("use_sim_time") is False
    assert given == {row.name: row.default for row in POLICY_PARAMETERS}
