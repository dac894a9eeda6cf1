"""Facts about what a base's plan view shows, and where."""

from pathlib import Path

import numpy as np

from vla_ros.contract import load_contract
from vla_ros.evaluation.plan_view import KEY, REACH_M, SIDE, add_plan_view, predicted_way, seen_from
from vla_ros.evaluation.rollout_report import EpisodeTrace

CONFIG = Path(__file__).parents[2] / "config" / "robots"
TWISTS, WAYPOINTS, ARM = (
    load_contract(CONFIG / f"{name}.yaml") for name in ("mobile_base", "mobile_base_path", "metaworld_sawyer")
)
POSE = np.array((1.0, 2.0, np.pi / 2.0))


def test_twists_lead_where_their_integral_does_and_waypoints_where_they_say() -> None:
    ahead = predicted_way(np.tile([0.5, 0.0], (4, 1)), TWISTS, POSE)
    np.testing.assert_allclose(ahead, [(1.0, 2.0 + 0.05 * k) for k in range(5)], atol=1e-12)
    waypoints = np.array([(1.0, 2.5, 0.0), (1.5, 3.0, 0.0)])
    np.testing.assert_allclose(predicted_way(waypoints, WAYPOINTS, POSE), [(1.0, 2.0), (1.0, 2.5), (1.5, 3.0)])


def test_what_is_ahead_of_the_base_is_ahead_in_its_frame() -> None:
    np.testing.assert_allclose(
        seen_from(np.array([(1.0, 3.0), (0.0, 2.0)]), POSE), [(1.0, 0.0), (0.0, 1.0)], atol=1e-12
    )


def trace() -> EpisodeTrace:
    made = EpisodeTrace(0)
    made.images = {"observation.images.front": [(100, np.zeros((4, 4, 3), np.uint8))]}
    made.poses = [(50, np.array((1.0, 1.0, np.pi / 2.0))), (100, POSE)]
    made.scans = [(100, np.array([(2.0, 0.0)]))]
    made.plans = [(100, np.tile([0.5, 0.0], (20, 1)))]
    return made


def test_the_picture_has_the_scan_the_way_and_the_plan_where_they_are() -> None:
    seen = trace()
    add_plan_view(seen, TWISTS)
    ((stamp, picture),) = seen.images[KEY]
    assert (stamp, picture.shape, picture.dtype) == (100, (SIDE, SIDE, 3), np.uint8)
    middle, metre = SIDE // 2, SIDE / 2 / REACH_M
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    scan = np.argwhere((blue > 150) & (red < 100)).mean(axis=0)
    np.testing.assert_allclose(scan, [middle - 2 * metre, middle], atol=1.0)
    plan = np.argwhere((red > 180) & (blue < 100))
    assert plan[:, 0].min() == np.clip(plan[:, 0].min(), middle - metre - 2, middle - metre + 2), "a metre ahead"
    behind = picture[middle + round(0.6 * metre), middle]
    assert (behind < 200).all(), "the way that it came"


def test_an_arm_has_none() -> None:
    seen = trace()
    add_plan_view(seen, ARM)
    assert KEY not in seen.images
