"""Which camera took the picture of the goal: what reads that camera's images reads the goal. No weights."""

from dataclasses import dataclass
from typing import Annotated

from vla_ros.contract import GOAL_IMAGE
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.policies.base import PolicyConfig
from vla_ros.schema import About, Only

GOAL_KEY = GOAL_IMAGE


@dataclass(frozen=True, kw_only=True)
class GoalCameraConfig(PolicyConfig):
    """Options of policies that may see a picture of their goal."""

    goal_camera: Annotated[
        str | None,
        About(
            "The camera whose weights read `goal.image`; by default the first one. Training fills in the contract's.",
            only=Only(f"with '{GOAL_IMAGE}' among the inputs", lambda config: config.has_goal),
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal_camera is not None and self.goal_camera not in self.camera_keys:
            known, hint = ", ".join(self.camera_keys), nearest_name(self.goal_camera, self.camera_keys)
            raise ConfigError(f"goal_camera '{self.goal_camera}' is not a camera among the inputs: {known}.{hint}")

    @property
    def has_goal(self) -> bool:
        """Whether there is room for a goal image."""
        return GOAL_IMAGE in self.inputs

    @property
    def camera_keys(self) -> tuple[str, ...]:
        """Keys of the cameras, in order, without the goal."""
        return tuple(key for key in self.image_keys if key != GOAL_IMAGE)

    @property
    def camera_of_goal(self) -> str:
        """The camera whose weights read the goal."""
        return self.goal_camera or self.camera_keys[0]

    def check_goal_size(self) -> None:
        """Refuse a goal of another size than the images of its camera.

        Raises:
            ConfigError: Names both sizes.
        """
        if not self.has_goal:
            return
        (height, width, _), camera = self.inputs[GOAL_IMAGE].shape, self.camera_of_goal
        if self.inputs[camera].shape[:2] != (height, width):
            of_camera = "×".join(map(str, self.inputs[camera].shape[:2]))
            raise ConfigError(
                f"inputs: '{GOAL_IMAGE}' is {height}×{width} and would be read as images of '{camera}', {of_camera}; "
                "name the camera that took it in goal_camera."
            )
