"""The worlds that the base drives in, by the name of their task."""

from collections.abc import Callable

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.sim.mobile_base.worlds.crossing import Crossing
from vla_ros.sim.mobile_base.worlds.obstacles import Obstacles
from vla_ros.sim.mobile_base.worlds.rough_patches import RoughPatches
from vla_ros.sim.mobile_base.worlds.t_maze import TMaze
from vla_ros.sim.mobile_base.worlds.world import Situation, World

WORLDS: dict[str, Callable[[], World]] = {
    "obstacles": lambda: Obstacles(None),
    "obstacles-day": lambda: Obstacles("day"),
    "obstacles-night": lambda: Obstacles("night"),
    "t-maze": TMaze,
    "rough-patches": RoughPatches,
    "crossing-night": Crossing,
}
"""Task → its world."""

DEFAULT_TASK = "obstacles"

__all__ = ["DEFAULT_TASK", "WORLDS", "Situation", "World", "make_world"]


def make_world(task: str) -> World:
    """Return the world of a task; empty for the default.

    Raises:
        ConfigError: There is no such task.
    """
    task = task or DEFAULT_TASK
    if task not in WORLDS:
        raise ConfigError(
            f"'{task}' is not a task of the mobile base: {', '.join(WORLDS)}.{nearest_name(task, WORLDS)}"
        )
    world = WORLDS[task]()
    world.task = task
    return world
