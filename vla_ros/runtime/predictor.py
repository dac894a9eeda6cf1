"""What the runtime asks of a model: observation in, action chunk out. A backend or a remote server is one class."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import Observation


@dataclass(frozen=True)
class PredictorSpec:
    """What a predictor takes and gives.

    Attributes:
        input_keys: Features that the policy takes.
        optional_keys: Those of them that a frame may lack.
        n_obs_steps: T, frames in an observation.
        action_horizon: H, steps predicted.
        n_action_steps: Steps of a chunk meant to be executed before a newer one replaces it.
    """

    input_keys: tuple[str, ...]
    optional_keys: tuple[str, ...]
    n_obs_steps: int
    action_horizon: int
    n_action_steps: int

    @property
    def needed_keys(self) -> tuple[str, ...]:
        """Features that every frame must have."""
        return tuple(key for key in self.input_keys if key not in self.optional_keys)


class Predictor(Protocol):
    """A policy that is ready to predict, with the state of one robot's episode.

    `begin_episode`, `predict` and `close` are called by one thread at a time; `prepare` may be called by another while
    a prediction is under way.

    Attributes:
        spec: What it takes and gives.
    """

    spec: PredictorSpec

    def begin_episode(self) -> None:
        """Forget the policy's state: memory, recurrent state and the position in the noise sequence."""

    def is_prepared(self, instruction: str) -> bool:
        """Whether an instruction can be used at once, without `prepare`."""

    def prepare(self, instruction: str) -> None:
        """Make an instruction ready, which may take long: tokenise or embed it.

        Raises:
            UserError: This machine cannot; the old instruction stays usable.
        """

    def predict(self, observation: Observation, is_known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Decide on an observation.

        Args:
            observation: As recorded or received, not normalised; values [T, ...].
            is_known: bool [T], True for frames that the last prediction of this episode has seen.

        Returns:
            Actions, float64 [H, A] in the contract's units. Step 0 is due at the observation's stamp.

        Raises:
            UserError: The observation is none of those trained on, the instruction cannot be embedded, or the model
                did not answer in time.
        """

    def close(self) -> None:
        """Release what the predictor holds; a call under way may be abandoned. The predictor is not used again."""
