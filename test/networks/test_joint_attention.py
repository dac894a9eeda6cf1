import pytest
import torch

from vla_ros.networks import (
    AttentionOptions,
    Expert,
    ExpertOptions,
    Segment,
    block_causal_mask,
    block_starts,
    joint_attention,
    joint_keys_values,
    token_positions,
)
from vla_ros.networks.language.pretrained import copy_gemma

SIZES = AttentionOptions(depth=3, n_heads=4, n_kv_heads=1, head_dim=8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def two_experts():
    return Expert(ExpertOptions(width=24, mlp_dim=40), SIZES), Expert(ExpertOptions(width=16, mlp_dim=20), SIZES)


def layout(lengths, valid):
    return token_positions(valid), block_causal_mask(block_starts(lengths), valid)


def test_tied_experts_equal_transformers_gemma_under_the_same_mask_and_positions():
    transformers = pytest.importorskip("transformers")
    config = transformers.GemmaConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=11,
    )
    gemma = transformers.GemmaModel._from_config(config, attn_implementation="eager").eval()
    for parameter in gemma.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    expert = Expert(ExpertOptions(width=24, mlp_dim=40), SIZES)
    copy_gemma(gemma, expert)
    lengths, valid = [4, 2, 3], torch.ones(2, 9, dtype=torch.bool)
    valid[1, 2:4] = False
    positions, allow = layout(lengths, valid)
    tokens = torch.randn(2, 9, 24)
    parts = [Segment(expert, part) for part in tokens.split(lengths, dim=1)]
    with torch.no_grad():
        outputs, _ = joint_attention(parts, positions, allow)
        blocked = torch.zeros(2, 1, 9, 9).masked_fill(~allow[:, None], torch.finfo(torch.float32).min)
        expected = gemma(inputs_embeds=tokens, attention_mask=blocked, position_ids=positions).last_hidden_state
    torch.testing.assert_close(torch.cat(outputs, dim=1)[valid], expected[valid], rtol=1e-4, atol=1e-5)


def test_one_expert_for_all_equals_the_same_tokens_in_one_segment():
    expert = Expert(ExpertOptions(width=24, mlp_dim=40), SIZES)
    positions, allow = layout([3, 2, 4], torch.ones(2, 9, dtype=torch.bool))
    tokens = torch.randn(2, 9, 24)
    parts, _ = joint_attention([Segment(expert, t) for t in tokens.split([3, 2, 4], dim=1)], positions, allow)
    (whole,), _ = joint_attention([Segment(expert, tokens)], positions, allow)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_cached_keys_and_values_give_the_same_outputs():
    first, second = two_experts()
    valid = torch.rand(3, 9) < 0.8
    positions, allow = layout([5, 4], valid)
    prefix, suffix = Segment(first, torch.randn(3, 5, 24)), Segment(second, torch.randn(3, 4, 16))
    (_, together), _ = joint_attention([prefix, suffix], positions, allow)
    cache = joint_keys_values([prefix], positions[:, :5], allow[:, :5, :5])
    (alone,), own = joint_attention([suffix], positions[:, 5:], allow[:, 5:], cache)
    torch.testing.assert_close(alone[valid[:, 5:]], together[valid[:, 5:]], rtol=1e-5, atol=1e-5)
    assert (cache.length, own.length) == (5, 4)


def test_keys_and_values_alone_are_those_of_the_full_pass():
    first, _ = two_experts()
    positions, allow = layout([5], torch.ones(2, 5, dtype=torch.bool))
    segment = Segment(first, torch.randn(2, 5, 24))
    _, full = joint_attention([segment], positions, allow)
    alone = joint_keys_values([segment], positions, allow)
    for ours, expected in zip(alone.layers, full.layers, strict=True):
        torch.testing.assert_close(ours, expected)


def test_earlier_segments_are_invariant_to_later_ones():
    first, second = two_experts()
    positions, allow = layout([5, 4], torch.ones(2, 9, dtype=torch.bool))
    prefix = Segment(first, torch.randn(2, 5, 24))
    one, _ = joint_attention([prefix, Segment(second, torch.randn(2, 4, 16))], positions, allow)
    other, _ = joint_attention([prefix, Segment(second, torch.randn(2, 4, 16) * 100)], positions, allow)
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)


def test_gradients_are_finite_when_a_token_may_attend_to_nothing():
    first, _ = two_experts()
    valid = torch.tensor([[True, True, False], [False, False, False]])
    positions, allow = layout([3], valid)
    (outputs,), _ = joint_attention([Segment(first, torch.randn(2, 3, 24))], positions, allow)
    outputs[valid].square().sum().backward()
    assert outputs.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in first.parameters())


def test_experts_of_several_kv_heads_agree_with_a_written_out_attention():
    sizes = AttentionOptions(depth=1, n_heads=4, n_kv_heads=2, head_dim=8)
    expert = Expert(ExpertOptions(width=16, mlp_dim=20), sizes)
    tokens, positions = torch.randn(1, 3, 16), torch.zeros(1, 3, dtype=torch.long)
    (got,), _ = joint_attention([Segment(expert, tokens)], positions, torch.ones(1, 3, 3, dtype=torch.bool))
    query, key, value = expert.layer(0).project(tokens)
    heads = []
    for head in range(4):
        share = torch.softmax(query[0, :, head] @ key[0, :, head // 2].T / 8**0.5, dim=-1)
        heads.append(share @ value[0, :, head // 2])
    expected = expert.final_norm(expert.layer(0).finish(tokens, torch.stack(heads, dim=1)[None]))
    torch.testing.assert_close(got, expected)
