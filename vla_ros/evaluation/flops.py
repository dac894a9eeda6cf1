"""Arithmetic of one prediction, counted. Networks are built without weights where that is enough; nothing is printed.

What counts: the multiply-adds of matrix products, convolutions and attention, two operations each. What does not:
norms, activations, softmax and other work per number, and the processors (a language model that embeds the instruction
among them).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vla_ros.policies import Policy, PolicyConfig, PolicyState
from vla_ros.policies.examples import make_example_batch

META = torch.device("meta")
LARGEST_WITH_WEIGHTS = 50_000_000
"""Parameters up to which a policy that cannot run without weights is given random ones."""

_TRAINING_ONLY = ("action", "action_is_pad", "past_action")


@dataclass(frozen=True)
class FlopCount:
    """Operations of one prediction for one robot (batch 1), all of its sampling or decoding passes included.

    Attributes:
        first: Of a prediction without a state, from `n_obs_steps` different frames; None when not counted.
        later: Of the one a tick later, with the state that the first returned; None also when the policy has no state.
        reason: Why there are no counts.
    """

    first: int | None
    later: int | None
    reason: str = ""


def build_weightless(kind: type[Policy], config: PolicyConfig) -> Policy:
    """Build a policy on torch's meta device, where tensors have shapes and no numbers.

    One whose constructor needs numbers gets real weights.

    Raises:
        ConfigError: The config asks for something impossible.
    """
    try:
        with META:
            return kind(config)
    except RuntimeError:  # what torch raises when it is asked for a number that is not there
        return kind(config)


def count_flops(policy: Policy) -> FlopCount:
    """Count the operations of a policy's predictions on example observations.

    On a policy without weights this allocates next to nothing. One that must look at numbers to know what to do (a
    cache that compares frames) is built again with random weights, if it is small.

    Args:
        policy: To be thrown away: it is left in eval mode and without gradients.
    """
    is_weightless = any(parameter.is_meta for parameter in policy.parameters())
    with _counted_operators():
        if not is_weightless:
            return _count(policy, torch.device("cpu"))
        try:
            return _count(policy, META)
        except RuntimeError as reason:
            total = policy.parameter_counts()["total"]
            if total > LARGEST_WITH_WEIGHTS:
                return FlopCount(None, None, _why_not(total, reason))
        return _count(type(policy)(policy.config), torch.device("cpu"))


def _why_not(total: int, reason: RuntimeError) -> str:
    return (
        f"it decides by its numbers what to compute ({str(reason).splitlines()[0].rstrip('.')}), and {total:,} "
        f"parameters are more than the {LARGEST_WITH_WEIGHTS:,} that are filled with random ones for counting"
    )


def _count(policy: Policy, device: torch.device) -> FlopCount:
    # without gradients, because the counter's hooks fail on parameters that are expanded
    policy.eval().requires_grad_(False)
    observation = _observation(policy.config, device)
    first, state = _count_one(policy, observation, None, device)
    if state is None:
        return FlopCount(first, None)
    later, _ = _count_one(policy, _a_tick_later(observation, policy.config, device), state, device)
    return FlopCount(first, later)


def _count_one(
    policy: Policy, observation: dict[str, Any], state: PolicyState | None, device: torch.device
) -> tuple[int, PolicyState | None]:
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mv: _matrix_times_vector})
    with device, counter:
        output = policy.predict_action_chunk(observation, state)
    return int(counter.get_total_flops()), output.state


def _matrix_times_vector(matrix: tuple[int, int], *_: object, **__: object) -> int:
    """Fill a gap in torch's table, given the matrix's shape."""
    return 2 * matrix[0] * matrix[1]


def _observation(config: PolicyConfig, device: torch.device, seed: int = 0) -> dict[str, Any]:
    batch = make_example_batch(config, batch_size=1, seed=seed)
    return {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in batch.items()
        if key not in _TRAINING_ONLY
    }


def _a_tick_later(observation: dict[str, Any], config: PolicyConfig, device: torch.device) -> dict[str, Any]:
    """Return the observation that follows: the oldest frame gone, a new one come."""
    fresh = _observation(config, device, seed=1)
    shifted = {key: torch.cat([observation[key][:, 1:], fresh[key][:, -1:]], dim=1) for key in config.inputs}
    return {**observation, **shifted}


@contextmanager
def _counted_operators() -> Iterator[None]:
    """Keep torch from fused kernels that its counter does not know: attention, transformer layers and LSTMs."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings():
        # about Intel GPUs, whenever oneDNN is switched
        warnings.filterwarnings("ignore", message="TF32 acceleration")
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
