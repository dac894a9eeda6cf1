import subprocess
import sys

import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.policies import build_policy, policy_class, policy_names
from vla_ros.policies.bc import BcPolicy
from vla_ros.registry import POLICIES

STATE = FeatureSpec("observation.state", "vector", (3,), "float32", ("x", "y", "z"))
ACTION = FeatureSpec("action", "action", (2,), "float32", ("dx", "dy"))


def test_built_in_policies_are_listed_and_found():
    assert "bc" in policy_names()
    assert policy_class("bc") is BcPolicy
    assert all(policy_class(name).name == name for name in policy_names())


def test_unknown_policy_names_the_nearest():
    with pytest.raises(ConfigError, match=r"policy 'bcc' is not one of .*Did you mean 'bc'\?"):
        policy_class("bcc")


@pytest.mark.parametrize("place", ["vla_ros.policies.bc:BcConfig", "vla_ros.policies.bc:NoSuchPolicy"])
def test_what_is_no_policy_is_one_sentence(monkeypatch, place):
    monkeypatch.setitem(POLICIES, "mine", place)
    with pytest.raises(ConfigError, match=r"policy 'mine' of .*(is no subclass of .*base:Policy|cannot be imported)"):
        policy_class("mine")


def test_a_policy_under_another_name_than_its_own_is_refused_since_its_checkpoints_would_not_load(monkeypatch):
    monkeypatch.setitem(POLICIES, "mine", BcPolicy)
    with pytest.raises(ConfigError, match=r"policy 'mine' is the class BcPolicy, whose name is 'bc'; give both one"):
        policy_class("mine")


def test_configuration_survives_plain_data():
    built = build_policy(
        "bc", {"inputs": {STATE.key: STATE}, "action": ACTION, "hidden_dims": [4], "action_horizon": 3}
    )
    again = build_policy("bc", built.config.to_dict())
    assert again.config == built.config


def test_importing_the_registry_imports_no_architecture():
    code = "import sys, vla_ros.policies; assert not [m for m in sys.modules if m.startswith('vla_ros.policies.bc')]"
    subprocess.run([sys.executable, "-c", code], check=True)
