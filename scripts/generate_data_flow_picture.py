#!/usr/bin/env python3
"""Draw docs/images/data_flow.png: the three rows (live, train, evaluate) and the parts that they share."""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "data_flow.png"
SHARED, OWN, OUTSIDE = "#2f6f8f", "#8a949b", "#c77f2a"
WIDTH, HEIGHT, GAP = 1.95, 0.74, 0.36
COLUMN = WIDTH + GAP

# row → boxes: (column, text, colour); the same text in several rows is the same code
LIVE = [
    (0, "ROS topics\nimages, joints, pose,\nIMU, LiDAR", OUTSIDE),
    (1, "decoders", SHARED),
    (2, "sample buffers", SHARED),
    (3, "frame at tick t", SHARED),
    (4, "processors", SHARED),
    (5, "policy", SHARED),
]
ACT = [
    (5, "action chunk", OWN),
    (4, "chunk executor\n(indexed by time)", SHARED),
    (3, "safety filter", SHARED),
    (2, "encoders", SHARED),
    (1, "command topics\nTwist, Pose,\nEndEffectorAction", OUTSIDE),
]
TRAIN = [
    (0, "rosbag2\nMCAP", OUTSIDE),
    (1, "decoders", SHARED),
    (2, "sample buffers", SHARED),
    (3, "frames on the\nfps grid", SHARED),
    (4, "LeRobotDataset v3\n→ windows\n→ processors", OWN),
    (5, "policy.compute_loss\n→ checkpoint", OWN),
]
EVALUATE = [
    (0, "rosbag2\nMCAP", OUTSIDE),
    (1, "live rows under\nthe bag's clock", SHARED),
    (2, "error against the\nrecorded action", OWN),
    (3, "report:\nJSON and plots", OWN),
]


def box(axes: plt.Axes, column: float, row: float, text: str, colour: str) -> None:
    """Draw one labelled box."""
    corner = (column * COLUMN, row)
    axes.add_patch(
        FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0.02,rounding_size=0.08", fc=colour, ec="none")
    )
    axes.text(corner[0] + WIDTH / 2, row + HEIGHT / 2, text, ha="center", va="center", color="white", fontsize=8.6)


def arrow(axes: plt.Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw one arrow."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color="#444444", lw=1.2))


def chain(axes: plt.Axes, row: float, boxes: list[tuple[int, str, str]]) -> None:
    """Draw a row of boxes with arrows between neighbours, in the order given."""
    for column, text, colour in boxes:
        box(axes, column, row, text, colour)
    middle = row + HEIGHT / 2
    for (first, *_), (second, *_) in pairwise(boxes):
        forward = second > first
        start = first * COLUMN + (WIDTH if forward else 0)
        end = second * COLUMN + (0 if forward else WIDTH)
        arrow(axes, (start, middle), (end, middle))


def main() -> None:
    """Write the picture."""
    figure, axes = plt.subplots(figsize=(13.4, 5.2))
    rows = {"live": 3.6, "act": 2.55, "train": 1.25, "evaluate": 0.1}
    for name, boxes in (("live", LIVE), ("act", ACT), ("train", TRAIN), ("evaluate", EVALUATE)):
        chain(axes, rows[name], boxes)
    middle = 5 * COLUMN + WIDTH / 2
    arrow(axes, (middle, rows["live"]), (middle, rows["act"] + HEIGHT))
    for name, label in (("live", "live"), ("train", "train"), ("evaluate", "evaluate")):
        axes.text(-0.2, rows[name] + HEIGHT / 2, label, ha="right", va="center", fontsize=12, weight="bold")
    keys = ((SHARED, "the same code in every row"), (OWN, "this row only"), (OUTSIDE, "the robot, or its bag"))
    for index, (colour, text) in enumerate(keys):
        x = 2.3 + index * 3.3
        axes.add_patch(FancyBboxPatch((x, 4.75), 0.22, 0.16, boxstyle="round,pad=0.02", fc=colour, ec="none"))
        axes.text(x + 0.38, 4.83, text, va="center", fontsize=10)
    axes.set_xlim(-1.3, 6 * COLUMN)
    axes.set_ylim(-0.1, 5.1)
    axes.set_axis_off()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUTPUT, dpi=110, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
