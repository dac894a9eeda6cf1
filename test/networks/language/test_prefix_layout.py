import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.context import block_causal_mask, block_starts
from vla_ros.networks.language.prefix_layout import PrefixLayout, Span, llava, paligemma, preset, prismatic, smolvla


def allowed(layout, valid=None):
    valid = torch.ones(1, len(layout), dtype=torch.bool) if valid is None else torch.tensor([valid], dtype=torch.bool)
    return layout.mask(valid)[0].int().tolist()


def test_llava_is_causal_throughout():
    assert allowed(llava(2, 2)) == torch.ones(5, 5).tril().int().tolist()
    assert allowed(prismatic(2, 2)) == allowed(llava(2, 2))


def test_paligemmas_prefix_sees_all_of_itself():
    assert allowed(paligemma([2], 1)) == torch.ones(3, 3).int().tolist()


def test_smolvlas_state_sees_the_prefix_and_is_not_seen_by_it():
    assert allowed(smolvla([1, 1], 1)) == [[1, 1, 1, 0]] * 3 + [[1, 1, 1, 1]]


def test_smolvlas_mask_is_that_of_its_flags():
    valid = torch.tensor([[True] * 6, [True, True, True, False, True, True]])
    starts = block_starts([5, 1])  # flags 0 … 0, 1
    expected = block_causal_mask(starts, valid) | torch.eye(6, dtype=torch.bool)
    assert torch.equal(smolvla([2, 1], 2).mask(valid), expected)


def test_queries_after_the_prefix_see_everything_and_each_other():
    layout = llava(1, 1).then(("queries", 2, True))
    assert allowed(layout) == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert layout["queries"] == slice(3, 5)


def test_causal_actions_after_a_bidirectional_prefix():
    layout = paligemma([1], 1).then(("actions", 2, False))
    assert allowed(layout) == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_padding_is_seen_by_nothing_and_sees_itself_alone():
    assert allowed(paligemma([1], 2), [1, 1, 0]) == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_positions_count_what_is_there():
    layout = llava(2, 3).then(("queries", 1, True))
    valid = torch.tensor([[True, True, True, True, False, False, True], [True, False, False, True, True, True, True]])
    assert layout.positions(valid).tolist() == [[0, 1, 2, 3, 3, 3, 4], [0, 0, 0, 1, 2, 3, 4]]


def test_it_is_printed_span_by_span():
    text = str(smolvla([64, 64], 48).then(("actions", 50, False)))
    assert text.splitlines() == [
        "     0…63  image 0          64 tokens  block 0  bidirectional",
        "   64…127  image 1          64 tokens  block 0  bidirectional",
        "  128…175  text             48 tokens  block 0  bidirectional",
        "      176  state             1 tokens  block 1  causal",
        "  177…226  actions          50 tokens  block 2  causal",
    ]


def test_spans_without_tokens_change_nothing():
    assert allowed(PrefixLayout.of(("a", 0, 0, True), ("b", 2, 0, True))) == [[1, 1], [1, 1]]
    assert len(PrefixLayout(())) == 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PrefixLayout.of(("a", 1, 0, True), ("a", 1, 0, True)), "two spans 'a'"),
        (lambda: PrefixLayout((Span("a", 1, 2, 0, True),)), "it must begin at 0"),
        (lambda: PrefixLayout.of(("a", 1, 0, True), ("b", 1, 0, False)), "both causal and bidirectional"),
        (lambda: PrefixLayout.of(("a", 1, 1, True), ("b", 1, 0, True)), "of block 0, after block 1"),
        (lambda: llava(1, 1)["state"], "no span 'state' among bos, image, text"),
        (lambda: llava(1, 1).mask(torch.ones(1, 4, dtype=torch.bool)), "4 tokens given, the layout has 3"),
        (lambda: preset("flamingo", [1], 1), "layout 'flamingo' is not one of llava"),
    ],
)
def test_layouts_that_cannot_be_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
