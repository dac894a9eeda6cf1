"""The cheapest way to a goal on a grid of costs: distances spread from the goal until nothing changes."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_FAR = 8.0  # cells
_MOVES = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))


class CostField:
    """Cost to go to a goal from every cell.

    Args:
        cost: Of a metre through each cell, float64 [N, N], infinite where the base cannot be; x along the first axis.
        lower: Of x and y at the grid's corner, m.
        resolution: Side of a cell, m.
        goal: x, y in m.
    """

    def __init__(self, cost: Vector, lower: float, resolution: float, goal: Vector) -> None:
        self._cost, self._lower, self._resolution = cost, lower, resolution
        self.to_go: Vector = np.full(cost.shape, np.inf)
        """Cost to the goal, float64 [N, N]; infinite where no way leads there."""
        self.to_go[self.cell(goal)] = 0.0
        self._links = [(dx, dy, self._length(dx, dy)) for dx, dy in (*_MOVES, *((-dx, -dy) for dx, dy in _MOVES))]
        while True:
            before = self.to_go.copy()
            for dx, dy, lengths in self._links:
                here, there = _windows(cost.shape, dx, dy)
                np.minimum(self.to_go[here], self.to_go[there] + lengths, out=self.to_go[here])
            if np.array_equal(before, self.to_go):
                return

    def _length(self, dx: int, dy: int) -> Vector:
        here, there = _windows(self._cost.shape, dx, dy)
        mean = (self._cost[here] + self._cost[there]) / 2.0
        if abs(dx) + abs(dy) == 3:  # a knight's move passes between two more cells
            (ax, ay), (bx, by) = _between(dx, dy)
            rows, columns = here
            first = self._cost[_moved(rows, ax), _moved(columns, ay)]
            second = self._cost[_moved(rows, bx), _moved(columns, by)]
            mean = np.maximum(mean, np.maximum(first, second))
        length: Vector = mean * (np.hypot(dx, dy) * self._resolution)
        return length

    def cell(self, point: Vector) -> tuple[int, int]:
        """Return the cell of a point."""
        size = self._cost.shape[0]
        x, y = np.clip(((point - self._lower) / self._resolution).astype(int), 0, size - 1)
        return int(x), int(y)

    def is_reachable_from(self, point: Vector) -> bool:
        """Whether a way leads from a point to the goal."""
        return bool(np.isfinite(self.to_go[self.cell(point)]))

    def path(self, start: Vector, goal: Vector, max_cells: int = 400) -> Vector:
        """Return the way from a point to the goal, smoothed, float64 [N, 2] in m."""
        x, y = self.cell(start)
        points = [np.asarray(start, np.float64)]
        for _ in range(max_cells):
            best = self._next(x, y)
            if best is None:
                break
            x, y = best
            points.append((np.array((x, y)) + 0.5) * self._resolution + self._lower)
        points.append(np.asarray(goal, np.float64))
        path = np.array(points)
        for _ in range(3):
            path[1:-1] = (path[:-2] + 2.0 * path[1:-1] + path[2:]) / 4.0
        return path

    def _next(self, x: int, y: int) -> tuple[int, int] | None:
        """Return the neighbour by which it is cheapest to go on; None at the goal, or where no way leads there."""
        if not np.isfinite(self.to_go[x, y]):
            return self._way_out(x, y)
        best, lowest = None, np.inf
        for dx, dy, lengths in self._links:
            here, there = _windows(self._cost.shape, dx, dy)
            row, column = x - here[0].start, y - here[1].start
            if 0 <= row < lengths.shape[0] and 0 <= column < lengths.shape[1]:
                cost = lengths[row, column] + self.to_go[there][row, column]
                if cost < lowest:
                    best, lowest = (x + dx, y + dy), cost
        return best if self.to_go[x, y] > 0.0 else None

    def _way_out(self, x: int, y: int) -> tuple[int, int] | None:
        """Return a near cell from which a way leads to the goal, of one in which the base should not be."""
        rows, columns = np.nonzero(np.isfinite(self.to_go))
        away = np.hypot(rows - x, columns - y)
        near = np.flatnonzero(away < _FAR)
        if not len(near):
            return None
        price = self.to_go[rows[near], columns[near]] + away[near] * self._resolution * 20.0
        best = near[int(np.argmin(price))]
        return int(rows[best]), int(columns[best])


def _between(dx: int, dy: int) -> tuple[tuple[int, int], tuple[int, int]]:
    sx, sy = int(np.sign(dx)), int(np.sign(dy))
    return ((sx, 0), (sx, sy)) if abs(dx) == 2 else ((0, sy), (sx, sy))


def _moved(window: slice, by: int) -> slice:
    return slice(window.start + by, window.stop + by)


def _windows(shape: tuple[int, ...], dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the cells that have a neighbour (dx, dy) away, and those neighbours."""
    rows, columns = shape
    here = slice(max(0, -dx), rows - max(0, dx)), slice(max(0, -dy), columns - max(0, dy))
    return here, (_moved(here[0], dx), _moved(here[1], dy))
