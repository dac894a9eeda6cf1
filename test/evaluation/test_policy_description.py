import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from vla_ros.cli.main import main
from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import ConfigError, ContractError
from vla_ros.data_types.resources import resource_path
from vla_ros.evaluation import flops, policy_description
from vla_ros.evaluation.flops import FlopCount, build_weightless, count_flops
from vla_ros.evaluation.policy_description import (
    PolicyOptions,
    architecture_of,
    describe_policy,
    find_policy,
    select_inputs,
    shipped_options,
)
from vla_ros.policies import LossOutput, Policy, PolicyConfig, PolicyOutput, policy_class, policy_config, policy_names

FRONT, WRIST, STATE, GOAL = "observation.images.front", "observation.images.wrist", "observation.state", "goal.image"
RT1_NAMES = tuple(f"a{i}" for i in range(11))
CONVOLUTIONS = 21 * 21 * 32 * 3 * 8 * 8 + 11 * 11 * (64 * 32 * 4 * 4 + 2 * 64 * 64 * 3 * 3)
"""Multiply-adds of the small CNN on 84×84 pixels."""


@pytest.fixture
def sawyer() -> RobotContract:
    return load_contract(resource_path("config/robots/metaworld_sawyer.yaml"))


def acting(contract: RobotContract, *names: str) -> RobotContract:
    return replace(contract, action=replace(contract.action, names=names, units=("1",) * len(names)))


def with_options(name: str, **options) -> PolicyOptions:
    chosen = find_policy(name)
    return replace(chosen, options={**chosen.options, **options})


def config_of(contract: RobotContract, chosen: PolicyOptions) -> PolicyConfig:
    given = {**chosen.options, "inputs": select_inputs(contract), "action": contract.features["action"]}
    return policy_config(chosen.policy, given)


def flops_of(contract: RobotContract, name: str, keys=None, **options) -> dict:
    return describe_policy(with_options(name, **options), contract, keys)["flops"]


# counts of parameters


def test_the_published_grp_has_855303_parameters(sawyer):
    contract = acting(sawyer, *RT1_NAMES[:7])
    described = describe_policy(find_policy("grp"), contract, [FRONT, GOAL], (64, 64))
    assert described["parameters"]["total"] == 855_303
    assert described["goals"]["takes"] == ["instruction", "goal_image"]


def test_the_published_rt1_has_32525216_parameters(sawyer, monkeypatch):
    monkeypatch.setattr(flops, "LARGEST_WITH_WEIGHTS", 0)  # its arithmetic on real weights takes seconds
    described = describe_policy(find_policy("rt1"), acting(sawyer, *RT1_NAMES), [FRONT], (300, 300))
    assert described["parameters"]["total"] == 32_525_216
    assert described["flops"]["first"] is None


def test_the_published_bc_cnn_has_411875_parameters(sawyer):
    inputs = tuple(spec for spec in sawyer.inputs if spec.topic != "/gripper/joint_states")
    contract = acting(replace(sawyer, inputs=inputs), "dx", "dy", "dz")
    described = describe_policy(find_policy("bc_cnn"), contract, [FRONT, STATE])
    assert described["parameters"] == {"encoders": 112_864, "head": 299_011, "total": 411_875}


# counts of operations, by hand


def test_a_policy_over_vectors_costs_two_operations_per_weight(sawyer):
    expected = 2 * (2 * 4 * 512 + 512 * 512 + 512 * (3 * 4))
    assert flops_of(sawyer, "bc", [STATE], n_obs_steps=2, action_horizon=3) == {
        "first": expected,
        "later": None,
        "reason": "",
    }


def test_convolutions_cost_two_operations_per_weight_and_place(sawyer):
    head = 64 * 512 + 512 * 512 + 512 * 4
    assert flops_of(sawyer, "bc", [FRONT])["first"] == 2 * (CONVOLUTIONS + head)


def test_the_coordinates_of_keypoints_count_as_matrix_products(sawyer):
    average, keypoints = (
        flops_of(sawyer, "bc", [FRONT], hidden_dims=[], pooling=pooling)["first"]
        for pooling in ("average", "spatial_softmax")
    )
    assert keypoints - average == 2 * (2 * 64 * 121 + 64 * 4)  # x and y of each map, and 64 more numbers for the head


def test_each_flow_step_of_pi0_costs_one_pass_over_the_actions(sawyer):
    tokens, width, mlp, heads, head_dim, actions = 8, 96, 256, 4, 32, 4
    everything = 2 * 4 + 1 + tokens  # keypoints of two cameras, proprioception, the actions themselves
    projections = width * head_dim * (2 * heads + 2) + 3 * width * mlp
    attention = 2 * heads * head_dim * everything
    ends = actions * width + 2 * width * width + width * width + width * actions
    step = 2 * tokens * (4 * (projections + attention) + ends)
    counts = [flops_of(sawyer, "pi0_small", flow_steps=steps)["first"] for steps in (1, 2, 4)]
    assert counts[1] - counts[0] == step
    assert counts[2] - counts[0] == 3 * step


def test_each_action_token_costs_one_pass_and_sees_one_token_more(sawyer):
    one, two, three = (
        flops_of(
            acting(sawyer, "a"), "flow_ar_small", decode="autoregressive", action_horizon=horizon, n_action_steps=1
        )["first"]
        for horizon in (1, 2, 3)
    )
    heads, head_dim, depth = 4, 32, 4
    assert (three - two) - (two - one) == depth * 2 * (2 * heads * head_dim)
    assert two - one > depth * 2 * (3 * 128 * 256)  # the language model's MLP among others


def test_a_memory_makes_later_predictions_cheaper_than_the_first(sawyer):
    frame = 2 * CONVOLUTIONS + 3 * 128 * (2 * 64 + 4 + 128)  # two cameras, and three gates over them and the state
    head = 128 * 512 + 512 * 512 + 512 * 4
    counts = flops_of(sawyer, "bc_gru", n_obs_steps=4)
    assert (counts["first"], counts["later"]) == (2 * (4 * frame + head), 2 * (frame + head))


def test_rt1_encodes_only_the_new_frame_when_it_has_a_state(sawyer):
    spared = []
    for steps in (2, 3):
        counts = flops_of(sawyer, "rt1_small", n_obs_steps=steps)
        spared.append(counts["first"] - counts["later"])
    assert spared[1] == 2 * spared[0] > 0


@pytest.mark.parametrize("name", ["act_small", "act_cvae_small", "bc_gru_small", "bc_vit_small", "grp_small"])
def test_counts_without_weights_are_those_with_weights(sawyer, name):
    chosen = find_policy(name)
    config, kind = config_of(sawyer, chosen), policy_class(chosen.policy)
    weightless = build_weightless(kind, config)
    assert all(parameter.is_meta for parameter in weightless.parameters())
    assert count_flops(weightless) == count_flops(kind(config))


# any architecture, also somebody else's


class Recurrent(Policy):
    """Needs numbers to be built, or to predict, as the test says; torch has fused kernels for its parts."""

    name = "recurrent"
    config_class = PolicyConfig
    builds_by_numbers = predicts_by_numbers = False

    def __init__(self, config):
        super().__init__(config)
        if self.builds_by_numbers:
            torch.linspace(0, 1, 3)[1].item()
        self.lstm = nn.LSTM(config.state_dim, 8, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, config.action_dim)

    def compute_loss(self, batch, generator=None):
        return LossOutput(batch["action"].mean())

    def predict_action_chunk(self, observation, state=None, generator=None):
        if self.predicts_by_numbers:
            observation[STATE].sum().item()
        output_BTD = self.layer(self.lstm(observation[STATE])[0])
        return PolicyOutput(self.head(output_BTD[:, -1:]))


RECURRENT_FLOPS = 2 * (
    3 * (4 * 8 * (4 + 8))  # LSTM: three frames of four numbers, four gates
    + 3 * (4 * 8 * 8 + 2 * 8 * 16)  # projections and MLP of the layer
    + 2 * 3 * 3 * 8  # its attention
    + 8 * 4
)


@pytest.mark.parametrize("needs", [[], ["builds_by_numbers"], ["predicts_by_numbers"]])
def test_fused_kernels_are_counted_with_and_without_weights(sawyer, monkeypatch, needs):
    for need in needs:
        monkeypatch.setattr(Recurrent, need, True)
    config = PolicyConfig(inputs=select_inputs(sawyer, [STATE]), action=sawyer.features["action"], n_obs_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_flops(build_weightless(Recurrent, config)) == FlopCount(RECURRENT_FLOPS, None)


def test_counting_leaves_torch_as_it_was(sawyer):
    flops_of(sawyer, "bc", [STATE])
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled
    assert torch.is_grad_enabled()
    assert torch.zeros(1).device.type == "cpu"


def test_a_large_policy_that_decides_by_numbers_is_not_counted_and_says_why(sawyer, monkeypatch):
    monkeypatch.setattr(flops, "LARGEST_WITH_WEIGHTS", 100)
    counts = flops_of(sawyer, "rt1_small")
    assert counts["first"] is counts["later"] is None
    assert "cannot be called on meta tensors" in counts["reason"]
    assert "more than the 100" in counts["reason"]


@dataclass(frozen=True, kw_only=True)
class PlainConfig(PolicyConfig):
    hidden_dim: int = 3


def test_an_architecture_that_says_nothing_of_goals_and_loss_has_none(sawyer):
    config = PlainConfig(inputs=select_inputs(sawyer, [STATE]), action=sawyer.features["action"])
    assert (config.goals, config.loss_summary, config.takes_goal_image) == ((), "", False)


# names, options, inputs


def test_every_shipped_options_file_belongs_to_a_policy():
    files = {stem: architecture_of(stem) for stem in shipped_options()}
    assert files["act_cvae_small"] == "act"
    assert files["bc_resnet18"] == "bc"
    assert files["flow_ar_small"] == "flow_ar"
    assert set(files.values()) == set(policy_names())


def test_the_longest_name_that_an_options_file_begins_with_wins(monkeypatch):
    monkeypatch.setattr(policy_description, "policy_names", lambda: ("flow", "flow_ar", "flo"))
    assert architecture_of("flow_ar_small") == "flow_ar"
    assert architecture_of("flow_small") == "flow"
    with pytest.raises(ConfigError, match=r"options file 'flower\.yaml'"):
        architecture_of("flower")


def test_a_name_alone_takes_the_defaults_and_a_file_its_options(sawyer):
    assert find_policy("pi0").options == {}
    assert find_policy("pi0_small").options["text"] is None
    described = describe_policy(find_policy("grp_small"), sawyer)
    config = {field["name"]: field for field in described["config"]}
    assert (config["depth"]["value"], config["depth"]["default"], config["depth"]["from"]) == (3, 4, "options")
    assert config["bins"]["from"] == "default"
    assert config["action"]["from"] == "contract"


@pytest.mark.parametrize(
    ("name", "takes", "text", "tensors"),
    [
        ("bc", [], None, {}),
        ("grp_small", ["instruction"], "characters", {"task_tokens": [12], "task_mask": [12]}),
        ("rt1_small", ["instruction"], "sentence_embedding", {"task_embedding": [384]}),
    ],
)
def test_an_instruction_is_an_input_where_the_policy_reads_it(sawyer, name, takes, text, tensors):
    described = describe_policy(find_policy(name), sawyer)
    assert (described["goals"]["takes"], described["goals"]["text"]) == (takes, text)
    entries = [entry for entry in described["inputs"] if entry["kind"] == "instruction"]
    assert {entry["key"]: entry["shape"] for entry in entries} == tensors


def test_pi0_with_a_text_reads_an_instruction(sawyer):
    described = describe_policy(with_options("pi0_small", text={"kind": "characters"}, flow_steps=1), sawyer)
    assert described["goals"]["takes"] == ["instruction"]
    assert described["goals"]["can_take"] == {"instruction": ["tokenizer", "characters"], "goal_image": True}


def test_the_goal_is_seen_only_where_it_is_named(sawyer):
    assert list(select_inputs(sawyer)) == [FRONT, WRIST, STATE]
    described = describe_policy(find_policy("grp_small"), sawyer, [FRONT, GOAL])
    assert {entry["key"]: entry["required"] for entry in described["inputs"][:2]} == {FRONT: True, GOAL: False}


def test_the_loss_is_told_as_the_options_make_it(sawyer):
    def objective(name, **options):
        return config_of(sawyer, with_options(name, **options)).loss_summary

    assert objective("bc") == "smooth_l1, each step times 1 + 2‖a‖"
    assert objective("bc_spherical_small", magnitude_weighting=False) == "smooth_l1 of length and direction"
    assert objective("act_cvae_small") == "l1 + 10 × KL divergence of the latent"
    assert objective("grp_small") == "mse"
    assert objective("grp_small", objective="cross_entropy", bins=9) == "cross_entropy over 9 bins"
    assert objective("flow_ar_small") == "1 × flow_matching + 0.1 × cross_entropy over 256 bins"
    assert objective("flow_ar_small", autoregressive_weight=0.0) == "1 × flow_matching"


def test_images_can_be_resized(sawyer):
    described = describe_policy(find_policy("bc"), sawyer, [WRIST, STATE], (20, 32))
    assert [entry["shape"] for entry in described["inputs"]] == [[1, 3, 20, 32], [1, 4]]


def test_image_sizes_that_an_architecture_cannot_take_are_refused(sawyer):
    with pytest.raises(ConfigError, match="patch_size=8 does not divide the image of 84×84"):
        describe_policy(find_policy("grp"), sawyer)


@pytest.mark.parametrize("keys", [["action"], [FRONT, FRONT]])
def test_inputs_are_different_observations(sawyer, keys):
    with pytest.raises(ConfigError, match="must be different observations"):
        select_inputs(sawyer, keys)


def test_misspelt_names_get_the_nearest(sawyer):
    with pytest.raises(ConfigError, match=r"'pi0_smal' .* Did you mean 'pi0_small'"):
        find_policy("pi0_smal")
    with pytest.raises(ContractError, match=r"Did you mean 'observation\.state'"):
        select_inputs(sawyer, ["observation.stat"])


def test_an_options_file_is_given_either_by_name_or_with_a_policy(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"'bc_cnn' is an options file itself; .* give its policy's name, 'bc'"):
        find_policy("bc_cnn", tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "expected a mapping of options"),
        ("inputs: {}", "'inputs' comes from the robot's contract"),
        ("hidden_dim: [3]", "hidden_dim is not a field here"),
    ],
)
def test_malformed_options_name_the_file(sawyer, tmp_path, text, expected):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml: {expected}"):
        describe_policy(find_policy("bc", path), sawyer)


def test_the_sequence_of_pi0_is_described_span_by_span(sawyer, capsys):
    rows = describe_policy(with_options("pi0_small"), sawyer)["layout"]
    assert [row["name"] for row in rows][-2:] == ["proprioception", "actions"]
    assert [row["block"] for row in rows][-2:] == [1, 2]
    assert rows[0]["name"] == FRONT
    assert rows[0]["places"].startswith("0…")
    assert describe_policy(find_policy("bc"), sawyer)["layout"] == []
    assert main(["policies", "describe", "pi0_small"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "actions: 8 tokens, block 2, bidirectional in it" in said
