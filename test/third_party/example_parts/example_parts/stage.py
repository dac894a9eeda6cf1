"""A simulator of one screenful: a point on an xy stage, which must be brought to a mark."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from example_parts.messages import LIGHT
from vla_ros.contract import InputSpec
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.sim import RosbagsMaker, SimRequest
from vla_ros.sim.message_maker import header, joint_state, picture
from vla_ros.sim.robot import Decide

SPEED_M_PER_S = 0.5
REACHED_M = 0.03


def make_stage(request: SimRequest) -> "Stage":
    """Build the stage; it has one task."""
    if request.task not in ("", "reach"):
        raise ConfigError(f"the stage has one task, 'reach', got '{request.task}'.")
    return Stage(request.seed)


class Stage:
    """A `vla_ros.sim.Robot`."""

    task = "reach"
    step_ns = NANOSECONDS // 50

    def __init__(self, seed: int) -> None:
        self._make = RosbagsMaker()
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Put point and mark where the seed says."""
        self.seed, self.success, self.reward = seed, False, 0.0
        self.position, self.mark = np.random.default_rng(seed).uniform(0.1, 0.9, (2, 2))
        self._target = self.position

    def command(self, action: NDArray[np.float64] | None, period_ns: int) -> None:
        """Take up a position to go to."""
        self._target = self.position if action is None else np.asarray(action)

    def step(self) -> None:
        """Move towards it."""
        way, reach = self._target - self.position, SPEED_M_PER_S * self.step_ns / NANOSECONDS
        self.position = self.position + way * min(1.0, reach / max(float(np.linalg.norm(way)), 1e-9))
        distance = float(np.linalg.norm(self.mark - self.position))
        self.reward, self.success = -distance, self.success or distance < REACHED_M

    def check_input(self, spec: InputSpec) -> None:
        """Take the camera, the light meter and the two axes."""
        if spec.image is None and spec.type != LIGHT.name and not set(spec.names) <= {"x", "y"}:
            raise ConfigError(f"{spec.key}: the stage measures the joints x and y, not {', '.join(spec.names)}.")

    def message(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return a picture from above, how light it is, or where the point is."""
        if spec.image is not None:
            return picture(self._make, spec.type, header(self._make, stamp_ns, "camera"), self.image())
        if spec.type == LIGHT.name:
            head = header(self._make, stamp_ns)
            return self._make.new(LIGHT.name, header=head, illuminance=self.light(), variance=0.0)
        return joint_state(self._make, header(self._make, stamp_ns), ("x", "y"), self.position)

    def light(self) -> float:
        """Return the light of the mark at the point, lx."""
        return 100.0 * float(np.exp(-np.linalg.norm(self.mark - self.position)))

    def image(self) -> NDArray[np.uint8]:
        """Return uint8 [16, 16, 3]: the mark red, the point green."""
        image = np.full((16, 16, 3), 30, np.uint8)
        for channel, (x, y) in enumerate((self.mark, self.position)):
            image[int(15 * y), int(15 * x), channel] = 255
        return image

    def demonstrator(self, policy: str) -> Decide:
        """Return what goes to the mark, or anywhere."""
        if policy == "random":
            generator = np.random.default_rng(self.seed)
            return lambda: generator.uniform(0.0, 1.0, 2)
        return lambda: self.mark

    def close(self) -> None:
        """Nothing to release."""
