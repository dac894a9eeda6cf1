"""A policy with the weights of a checkpoint. What the files declare is compared before memory is taken for it.

The policy is first built without memory, on torch's meta device, and compared with the header of its weights: names,
shapes and types must be equal, so that what is then built for real is as large as the file.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vla_ros.checkpoint.tensor_files import (
    TYPES,
    Form,
    Header,
    cut,
    name_of_not_finite,
    read_header,
    shown,
    unreadable,
)
from vla_ros.data_types import CheckpointError, ConfigError
from vla_ros.networks.earlier_weights import upgraded_weights
from vla_ros.policies import Policy, PolicyConfig, options_of

_LOG = logging.getLogger(__name__)

GIB = 1 << 30
SPARE_BYTES = GIB // 4
"""What a policy may take beside its weights: masks, tables of positions, and what they are computed from."""
LARGEST_OBSERVATION = 4 * GIB
"""As the policy gets it, in float32."""
CALLS_PER_TENSOR, SPARE_CALLS = 50, 2000
"""Tensors made or filled while a policy is built; ours take up to 10 for each tensor."""
NAMED = 3
"""Tensors named in one message."""


def load_weights(config: PolicyConfig, kind: type[Policy], source: str, weights: Path) -> Policy:
    """Build a policy and give it the weights of a file.

    Args:
        config: Of the policy.
        kind: Its architecture.
        source: Where the config stands, for messages.
        weights: A safetensors file.

    Returns:
        The policy, on the CPU.

    Raises:
        CheckpointError: No policy can be built of the config, or the weights are damaged, of another config, of another
            type, or not finite; names the file and the tensor.
    """
    _check_observation(config, source)
    header = read_header(weights)
    is_earlier = _check_declared(kind, config, source, header, weights)
    if not_finite := name_of_not_finite(weights):
        raise CheckpointError(
            f"{weights}: '{not_finite}' holds numbers that are not finite; take another checkpoint or train again."
        )
    policy = _built(lambda: kind(config), source)
    try:
        if is_earlier:
            _LOG.warning(
                "%s: its weights have names of an earlier version, and are taken for what they are now", weights
            )
            # what is there and what is not has been compared; a tensor of two names is there once
            policy.load_state_dict(upgraded_weights(policy, load_file(weights)), strict=False)
        else:
            load_model(policy, weights, strict=True)
    except (SafetensorError, OSError) as reason:
        raise unreadable(weights, reason) from reason
    except RuntimeError as reason:
        raise CheckpointError(f"{weights}: not the weights of this configuration: {cut(reason)}.") from reason
    return policy


class _Building(TorchFunctionMode):
    """Watches the tensors that are made and filled while a policy is built: how many, and how large.

    Args:
        most: Their number after which no end is to be expected.

    Attributes:
        largest: Bytes that the largest tensor has or, without memory, would have.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.largest = 0
        self._left = most

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor):  # such as the end of `no_grad`, which must not be kept from happening
            return result
        self.largest = max(self.largest, _bytes(result))
        self._left -= 1
        if self._left < 0:
            raise ConfigError("it asks for far more parts than the file of weights has tensors.")
        return result


def _check_declared(kind: type[Policy], config: PolicyConfig, source: str, header: Header, weights: Path) -> bool:
    """Compare a policy with its weights, and bound what it takes beside them, before it takes anything.

    Returns:
        Whether the weights have an earlier version's names.
    """
    building = _Building(SPARE_CALLS + CALLS_PER_TENSOR * len(header.forms))
    size = weights.stat().st_size

    def without_memory() -> Policy:
        try:
            with torch.device("meta"), building:
                return kind(config)
        except RuntimeError as reason:
            # an architecture of another package may need numbers to be built, which a tensor without memory has not
            if "meta" not in str(reason).lower() or building.largest > size + SPARE_BYTES:
                raise
        with building:
            return kind(config)

    policy = _built(without_memory, source)
    today = _of_today(policy, header)
    _check_forms(policy, today, weights)
    taken = sum(map(_bytes, [*policy.parameters(), *policy.buffers()]))
    if max(taken, building.largest) > size + SPARE_BYTES:
        raise CheckpointError(
            f"{source}: the policy would take {max(taken, building.largest) / GIB:.3g} GiB, but its weights are "
            f"{size / GIB:.3g} GiB; the checkpoint is damaged, or is not what it claims to be."
        )
    return today is not header


def _of_today(policy: Policy, header: Header) -> Header:
    """Return the header that the weights have under today's names; the same one where they have these already."""
    dtypes = {name: dtype for dtype, name in TYPES.items()}
    if set(header.forms) <= set(policy.state_dict()) or not all(f.dtype in dtypes for f in header.forms.values()):
        return header
    stored = {name: torch.empty(f.shape, dtype=dtypes[f.dtype], device="meta") for name, f in header.forms.items()}
    try:
        today = upgraded_weights(policy, stored)
    except (RuntimeError, ValueError, IndexError):  # shapes of no version
        return header
    return header if today.keys() == stored.keys() else Header({n: Form.of(t) for n, t in today.items()}, header.notes)


def _check_forms(policy: Policy, header: Header, weights: Path) -> None:
    tensors = policy.state_dict(keep_vars=True)
    declared = {name: Form.of(tensor) for name, tensor in tensors.items()}
    # a tensor with several names is stored under one of them, and the others may be noted beside it
    kept = {id(tensor): name for name, tensor in tensors.items() if name in header.forms}
    names = {name: kept.get(id(tensor), header.notes.get(name, name)) for name, tensor in tensors.items()}
    stored = {name: header.forms.get(names[name]) for name in declared}
    absent = [shown(name) for name, form in stored.items() if form is None]
    surplus = [shown(name) for name in header.forms if name not in declared]
    other = [
        f"{shown(name)} is {form}, the policy's {declared[name]}"
        for name, form in stored.items()
        if form is not None and form != declared[name]
    ]
    kinds = (("it lacks ", absent), ("it has, and the policy has not, ", surplus), ("", other))
    problems = [f"{what}{_few(names)}" for what, names in kinds if names]
    if problems:
        raise CheckpointError(f"{weights}: not the weights of this configuration: {'; '.join(problems)}.")


def _check_observation(config: PolicyConfig, source: str) -> None:
    size = 4 * config.n_obs_steps * sum(prod(spec.shape) for spec in config.inputs.values())
    if size > LARGEST_OBSERVATION:
        raise CheckpointError(
            f"{source}: an observation of n_obs_steps={config.n_obs_steps} would take {size / GIB:.3g} GiB, the most "
            f"is {LARGEST_OBSERVATION / GIB:.0f}; use fewer or smaller images."
        )


def _built(build: Callable[[], Policy], source: str) -> Policy:
    try:
        with options_of(source):
            return build()
    except ConfigError as reason:
        raise CheckpointError(str(reason)) from reason
    except Exception as reason:  # sizes that torch or Python cannot take: whatever a file may say
        named = ": ".join(part for part in (type(reason).__name__, cut(reason)) if part)
        raise CheckpointError(f"{source}: cannot be built: {named}.") from reason


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
