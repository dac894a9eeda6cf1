import importlib.metadata
import subprocess
import sys

import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.policies import build_policy, policy_class, policy_names, registry
from vla_ros.policies.bc import BcPolicy

STATE = FeatureSpec("observation.state", "vector", (3,), "float32", ("x", "y", "z"))
ACTION = FeatureSpec("action", "action", (2,), "float32", ("dx", "dy"))


def entry_point(value: str, name: str = "mine"):
    return importlib.metadata.EntryPoint(name, value, registry.ENTRY_POINT_GROUP)


@pytest.fixture
def registered(monkeypatch):
    def install(value: str, name: str = "mine") -> None:
        monkeypatch.setattr(
            registry,
            "entry_points",
            lambda group: [entry_point(value, name)] if group == registry.ENTRY_POINT_GROUP else [],
        )

    return install


def test_built_in_policies_are_listed_and_found():
    assert "bc" in policy_names()
    assert policy_class("bc") is BcPolicy
    assert all(policy_class(name).name == name for name in policy_names())


def test_unknown_policy_names_the_nearest():
    with pytest.raises(ConfigError, match=r"policy 'bcc' is not one of .*Did you mean 'bc'\?"):
        policy_class("bcc")


def test_another_package_registers_a_policy_by_entry_point(registered):
    registered("vla_ros.policies.bc:BcPolicy")
    assert "mine" in policy_names()
    assert policy_class("mine") is BcPolicy


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("no_such_module_anywhere:Policy", r"policy 'mine' \(no_such_module_anywhere:Policy\) cannot be imported"),
        ("vla_ros.policies.bc:NoSuchPolicy", "cannot be imported"),
        ("vla_ros.policies.bc:BcConfig", "is no subclass of"),
    ],
)
def test_broken_entry_point_is_one_sentence(registered, value, sentence):
    registered(value)
    with pytest.raises(ConfigError, match=sentence):
        policy_class("mine")


def test_built_in_name_wins_over_an_entry_point(registered):
    registered("no_such_module_anywhere:Policy", name="bc")
    assert policy_class("bc") is BcPolicy


def test_configuration_survives_plain_data():
    built = build_policy(
        "bc", {"inputs": {STATE.key: STATE}, "action": ACTION, "hidden_dims": [4], "action_horizon": 3}
    )
    again = build_policy("bc", built.config.to_dict())
    assert again.config == built.config


def test_importing_the_registry_imports_no_architecture():
    code = "import sys, vla_ros.policies; assert not [m for m in sys.modules if m.startswith('vla_ros.policies.bc')]"
    subprocess.run([sys.executable, "-c", code], check=True)
