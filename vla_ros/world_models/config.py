"""Options of the world model and of planning with it, checked when built."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vla_ros.data_types import ConfigError
from vla_ros.policies.base import MOST_STEPS, PolicyConfig
from vla_ros.schema import About, Only

_CEM = Only("with planner 'cem'", lambda config: config.planner == "cem")


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig(PolicyConfig):
    """Options of `WorldModelPolicy`; the defaults train on a CPU with 64×64 images.

    ``action_horizon`` is how far plans reach.
    """

    action_horizon: Annotated[int, About("H, ticks that a plan reaches.", at_least=1, at_most=MOST_STEPS)] = 12
    sequence_length: Annotated[
        int, About("Frames of a training sequence.", "frames", at_least=2, at_most=MOST_STEPS)
    ] = 32
    hidden_dim: Annotated[int, About("Width of the deterministic state and of the layers.", at_least=1)] = 256
    n_latents: Annotated[int, About("Categorical latents.", at_least=1)] = 16
    n_classes: Annotated[int, About("Classes of each latent.", at_least=2)] = 16
    image_depth: Annotated[
        int, About("Channels of the first convolution; the fourth has eight times as many.", at_least=1)
    ] = 16
    uniform_ratio: Annotated[float, About("Of the uniform distribution in each latent's.", at_least=0, below=1)] = 0.01
    free_nats: Annotated[
        float, About("Divergence of a step, over all latents, below which nothing is learnt of it.", "nats", at_least=0)
    ] = 1.0
    dynamics_weight: Annotated[float, About("Of the divergence as the prior's fault.", at_least=0)] = 1.0
    representation_weight: Annotated[float, About("Of the divergence as the posterior's fault.", at_least=0)] = 0.1
    reward: Annotated[
        Literal["progress", "success"],
        About(
            "Demonstrations carry no reward. `progress`: the ratio of the episode that has passed, 0 to 1. `success`: "
            "1 at an episode's last frame, 0 before; for episodes that end in success."
        ),
    ] = "progress"
    planner: Annotated[
        Literal["cem", "random_shooting"],
        About("`cem`: the cross-entropy method. `random_shooting`: the best of uniformly drawn sequences."),
    ] = "cem"
    samples: Annotated[int, About("Sequences imagined at once.", at_least=2, at_most=100_000)] = 300
    elites: Annotated[int, About("Best sequences that the next ones resemble.", at_least=2, only=_CEM)] = 30
    iterations: Annotated[int, About("How often that is done.", at_least=1, at_most=1000, only=_CEM)] = 5
    min_std: Annotated[float, About("Least deviation of the sequences drawn.", above=0, only=_CEM)] = 0.05
    discount: Annotated[float, About("Of a reward one tick later.", above=0, at_most=1)] = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, spec in self.inputs.items():
            if spec.kind not in ("image", "vector"):
                raise ConfigError(f"inputs: '{key}' holds {spec.kind}; a world model sees images and vectors only.")
        if self.planner == "cem" and self.elites > self.samples:
            raise ConfigError(f"elites={self.elites} exceeds samples={self.samples}; they are the best of those.")

    @property
    def needs_past_action(self) -> bool:
        """Whether training needs the actions between frames: it is about what they lead to."""
        return True

    @property
    def needs_progress(self) -> bool:
        """Whether training needs how much of the episode has passed: rewards are made of it."""
        return True

    @property
    def bounded_actions(self) -> bool:
        """Whether plans lie in [−1, 1]."""
        return True

    @property
    def training_frames(self) -> int:
        """Frames of a training sequence."""
        return self.sequence_length

    @property
    def loss_summary(self) -> str:
        """What training minimises."""
        return "reconstruction, reward, continuation and the balanced divergence of posterior and prior"
