"""Drives the safety filter with random contracts, plants and commands, and judges every command by rules of its own.

`run_seed` is one episode; the same seed is the same episode. `make fuzz` runs 100,000 and writes fuzz_result.json.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import json
import math
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from fuzz_plants import Plant, logarithm, quaternion_of  # noqa: E402
from fuzz_rules import Judge, Limits  # noqa: E402

from vla_ros.contract import RobotContract, parse_contract  # noqa: E402
from vla_ros.data_types import ActionChunk, Command  # noqa: E402
from vla_ros.safety import DROPPING, REASONS, Measured, SafetyFilter, StopLatch  # noqa: E402

NANOS = 1_000_000_000
WIDTH = {"none": 0, "rotation_vector": 3, "quaternion": 4, "rot6d": 6}
KINDS = [
    *(("displacement", form, frame) for form in WIDTH for frame in ("base", "tool")),
    *(("twist", form, frame) for form in ("none", "rotation_vector") for frame in ("base", "tool")),
    *(("pose", form, "base") for form in WIDTH),
    ("joint_position", "none", "base"),
    ("joint_position", "none", "base"),
]
PLANTS = ((0.0, False), (0.0, True), (0.02, False), (0.1, False))
TICKS = 14
FOLLOWING_S, TRAIL_S = 0.5, 0.15


class Episode:
    """One contract, one plant, one filter and `TICKS` ticks of a wild policy.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.representation, self.rotation, self.frame = KINDS[seed % len(KINDS)]
        lag_s, late = PLANTS[seed // len(KINDS) % len(PLANTS)]
        self.limits, contract = self._contract()
        self.relative, self.joints = self.limits.relative, self.representation == "joint_position"
        self.stop = StopLatch()
        self.filter = SafetyFilter(contract, self.stop, require_measurement=True)
        self.control_ns, self.period_ns = NANOS // contract.control_rate_hz, NANOS // contract.fps
        self.now_ns = 10**18 + int(self.rng.integers(10**9))
        self.plant = Plant(self._somewhere(), self._orientation(), lag_s, late=late)
        self.judge = Judge(self.limits)
        self.gap = 0.0  # how far the set point was from the measurement at a seed
        self.missed_s = self.fastest_turn = 0.0
        self.outside = np.inf  # of the plant, at the tick before
        self.counts: Counter[str] = Counter()
        self.wanted: Any = None
        self.seeded = False

    # The scenario

    def _contract(self) -> tuple[Limits, RobotContract]:
        rng, joints = self.rng, self.representation == "joint_position"
        gripper = bool(rng.random() < 0.5)
        arm = 3 if joints else 3 + WIDTH[self.rotation]
        names = [f"n{i}" for i in range(arm)] + ["gripper"] * gripper
        size = len(names)
        speed, acceleration = 10 ** rng.uniform(-1.5, 0.7), 10 ** rng.uniform(-1, 1.5)
        turn_speed, turn_acceleration = 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-1, 2)
        has = rng.random(8) < [0.75, 0.5, 0.75, 0.4, 0.8, 0.5, 0.3, 0.3]
        inf, limits = np.full(size, np.inf), {}
        fps = int(rng.choice([5, 10, 20, 50]))
        made = Limits(
            self.representation, self.rotation, self.frame == "tool", -inf, inf.copy(), -inf[:3], inf[:3].copy(),
            np.inf, np.inf, np.inf, np.inf, inf.copy(), inf.copy(), size - 1 if gripper else None,
            1.0 / (fps * (multiple := int(rng.choice([1, 1, 2, 3])))),
        )  # fmt: skip
        if has[1]:
            limits["max_acceleration"] = made.acceleration = float(acceleration)
        if has[2]:
            limits["max_angular_speed"] = made.turn_speed = float(turn_speed)
        if joints:
            self._joint_limits(made, limits, has)
        else:
            if has[0]:
                limits["max_speed"] = made.speed = float(speed)
            if has[3]:
                limits["max_angular_acceleration"] = made.turn_acceleration = float(turn_acceleration)
            if has[4]:
                made.box_low, made.box_high = -rng.uniform(0.2, 1.0, 3), rng.uniform(0.2, 1.0, 3)
                limits["workspace"] = {"min": made.box_low.tolist(), "max": made.box_high.tolist()}
            if has[5] and self.rotation in ("none", "rotation_vector"):
                scale = 10 ** rng.uniform(-2, 0.5) if made.relative else 1.5
                made.lower, made.upper = -scale * rng.uniform(0.5, 1, size), scale * rng.uniform(0.5, 1, size)
                if not made.relative:
                    made.lower[3:], made.upper[3:] = -10.0, 10.0
                    made.box_low = np.maximum(made.box_low, made.lower[:3])
                    made.box_high = np.minimum(made.box_high, made.upper[:3])
                limits["lower"], limits["upper"] = made.lower.tolist(), made.upper.tolist()
        pose = [f"pose.position.{a}" for a in "xyz"] + [f"pose.orientation.{a}" for a in "xyzw"]
        stream = {"max_age_s": 1.0}
        action: dict[str, Any] = {
            "representation": self.representation, "rotation": self.rotation, "names": names, "units": ["1"] * size,
            "frame": self.frame, "limits": limits,
            "record": {**stream, "topic": "/r", "type": "std_msgs/msg/Float64MultiArray",
                       "alignment": {"timeline": "receive"}},
            "sinks": [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}],
        }  # fmt: skip
        if gripper:
            action["gripper"] = {"name": "gripper", "open": 0.0, "closed": 1.0}
        content = {
            "robot_type": "fuzz", "fps": fps, "control_rate_hz": fps * multiple, "base_frame": "base",
            "tool_frame": "tool", "action": action,
            "inputs": [
                {**stream, "key": "observation.tool", "topic": "/t", "type": "geometry_msgs/msg/PoseStamped",
                 "fields": pose},
                {**stream, "key": "observation.joints", "topic": "/j", "type": "sensor_msgs/msg/JointState",
                 "joints": names if rng.random() < 0.5 or not gripper else names[:-1]},
            ],
        }  # fmt: skip
        return made, parse_contract(content, "fuzz.yaml")

    def _joint_limits(self, made: Limits, limits: dict[str, Any], has: Any) -> None:
        rng, size, arm = self.rng, len(made.lower), made.arm
        made.joint_speed[arm], made.joint_acceleration[arm] = made.turn_speed, made.acceleration
        made.turn_speed = made.acceleration = np.inf
        if has[0]:
            own = 10 ** rng.uniform(-1.5, 1, size)
            limits["max_joint_speed"] = own.tolist()
            made.joint_speed = np.minimum(made.joint_speed, own)
        if has[3]:
            own = 10 ** rng.uniform(-1, 2, size)
            limits["max_joint_acceleration"] = own.tolist()
            made.joint_acceleration = np.minimum(made.joint_acceleration, own)
        if has[4]:
            made.lower, made.upper = -rng.uniform(0.3, 3, size), rng.uniform(0.3, 3, size)
            limits["lower"], limits["upper"] = made.lower.tolist(), made.upper.tolist()
        if has[5]:
            limits["joint_limits"] = {}
            for i in arm:
                low, high, fast = -rng.uniform(0.3, 3), rng.uniform(0.3, 3), 10 ** rng.uniform(-1, 1)
                limits["joint_limits"][f"n{i}"] = {"min_position": low, "max_position": high, "max_velocity": fast}
                made.lower[i], made.upper[i] = max(made.lower[i], low), min(made.upper[i], high)
                made.joint_speed[i] = min(made.joint_speed[i], fast)

    def _bounds(self) -> tuple[Any, Any]:
        limits = self.limits
        low, high = (limits.lower, limits.upper) if self.joints else (limits.box_low, limits.box_high)
        return np.maximum(low, -1.5), np.minimum(high, 1.5)

    def _somewhere(self, beyond: float = 0.15) -> Any:
        """A place inside the bounds, now and then outside."""
        low, high = self._bounds()
        place = low + (high - low) * self.rng.uniform(0.02, 0.98, len(low))
        if self.rng.random() < beyond:
            place = place + self.rng.normal(0, 10 ** self.rng.uniform(-3, 0), len(low))
        return place

    def _orientation(self) -> Any:
        q = self.rng.normal(size=4)
        return q / np.linalg.norm(q)

    # Ticks

    def run(self) -> list[str]:
        """Run the episode and return every broken rule."""
        style, quiet = self.rng.choice(["steps", "ramp", "wall", "back and forth"]), 0
        for tick in range(TICKS):
            event = self.rng.random()
            if quiet > 0 or event < 0.08:
                begins = quiet == 0
                quiet = int(self.rng.integers(1, 12)) if begins else quiet - 1
                self._interrupt(quiet, begins=begins)
                continue
            if event < 0.10:
                self._reject()
            if 0.10 <= event < 0.12 and tick:
                self._carry_away()
                continue
            if 0.12 <= event < 0.16:
                self._look_ahead()
            if event > 0.97 and self.seeded:
                self._pass_time(1)  # a tick is missed
                self.missed_s += self.control_ns / NANOS if self.representation == "twist" else 0.0
            self._tick(self._command(str(style), tick))
            if self.judge.wrong:
                break
        if not self.judge.wrong:
            self._gentle()
        return self.judge.wrong

    def _measurement(self) -> Measured:
        state, orientation = self.plant.measured
        if self.joints:
            return Measured(joints=state.copy(), stamp_ns=self.now_ns)
        return Measured(state.copy(), orientation.copy(), None, self.now_ns)

    def _seed(self, measured: Measured) -> None:
        self.filter.seed(measured)
        self._judge_seed()

    def _judge_seed(self) -> None:
        state, orientation = self.plant.measured
        self.judge.seed(None if self.relative else state, None if self.relative else orientation)
        self.gap += float(np.linalg.norm(self.plant.set_point - state))
        self.seeded = True

    def _pass_time(self, ticks: int) -> None:
        for _ in range(ticks):
            self.plant.advance(self.control_ns / NANOS)
            self.now_ns += self.control_ns

    def _interrupt(self, left: int, *, begins: bool) -> None:
        """A pause, stop, dry run or dropout; the robot stands still, and at its end it may be somewhere else."""
        rng = self.rng
        self.plant.halt()
        if begins:
            self._refuse_meanwhile()
        self._pass_time(1)
        if left == 0:
            if rng.random() < 0.5:
                self.plant.place(self._somewhere(), self._orientation())
                self.outside = np.inf
                self._pass_time(1)
            self.wanted = None
            if rng.random() < 0.8:
                self._seed(self._measurement())
            elif self.seeded:  # a long pause alone is enough
                self._pass_time(1 + math.ceil(max(NANOS // 4, 3 * self.period_ns) / self.control_ns))
                self._judge_seed()

    def _refuse_meanwhile(self) -> None:
        """What is asked for during an interruption is dropped or only looked at, and moves nothing in the filter."""
        rng = self.rng
        command = Command(self._command("steps", 0), self.now_ns, self.period_ns)
        state = self.filter._state
        kind = rng.integers(3)
        if kind == 0:
            self.stop.latch()
            if self.filter.filter(command, self._measurement()).command is not None:
                self.judge.say("passed a latched stop")
            self.stop.reset()
        elif kind == 1:
            self.filter.preview(command, self._measurement())
            self.filter.filter_chunk(self._chunk(), self._measurement())
        elif self.filter.needs_measurement:
            unknown = Measured(np.full(3, np.nan), None, None, 0) if rng.random() < 0.5 else None
            if self.filter.filter(command, unknown).command is not None:
                self.judge.say("passed without a measurement")
        if self.filter._state is not state:
            self.judge.say("something moved inside the filter")

    def _reject(self) -> None:
        """A command that stands for none is dropped and changes nothing."""
        action, state = self._command("steps", 0), self.filter._state
        action[self.rng.integers(len(action))] = self.rng.choice([np.nan, np.inf, -np.inf, 1e300])
        result = self.filter.filter(Command(action, self.now_ns, self.period_ns), self._measurement())
        if result.command is not None or self.filter._state is not state:
            self.judge.say("passed what is no number")

    def _carry_away(self) -> None:
        """A robot that is not where it was told to be is a fault, and stays one until the filter is seeded."""
        limits, state = self.limits, self.judge.state
        if self.relative or state is None or self.judge.effect_s is None:
            return
        speed = limits.joint_speed[limits.arm] if self.joints else limits.speed
        far = np.min(speed) * FOLLOWING_S
        if not np.isfinite(far):
            return
        place = state.copy()
        place[0] += float(1.01 * (speed[0] if self.joints else speed) * FOLLOWING_S) * self.rng.choice([-1, 1])
        if not np.isfinite(place).all():
            return
        self.plant.place(place, self.plant.orientation)
        self._pass_time(1)
        for _ in range(2):
            command = Command(self._command("steps", 1), self.now_ns, self.period_ns)
            result = self.filter.filter(command, self._measurement())
            if self._long_pause(command.effect_ns):
                break
            if set(result.interventions) - {"degenerate_rotation"} != {"following_error"}:
                self.judge.say(f"carried away and not noticed: {result.interventions}")
            held = self.filter.hold_action(self._measurement())
            if held is not None and np.abs(held[: len(state)] - place[: len(held)])[0] > 1e-9:
                self.judge.say("holds where the robot is not", *held)
        self.outside = np.inf
        self._seed(self._measurement())

    def _long_pause(self, effect_ns: int) -> bool:
        last_s = self.judge.effect_s
        elapsed_ns = effect_ns - 10**18 - round((last_s or 0.0) * NANOS)
        return last_s is None or elapsed_ns > max(NANOS // 4, 3 * self.period_ns)

    def _look_ahead(self) -> None:
        """A chunk's steps obey the same rules one after the other, and what is held is near."""
        state, measured = self.filter._state, self._measurement()
        if self.judge.effect_s is None or self._long_pause(self.now_ns) or (self.relative and self.frame == "tool"):
            return
        wanted = np.stack([self._command("steps", i) for i in range(4)])
        chunk, _ = self.filter.filter_chunk(ActionChunk(wanted, self.now_ns, self.period_ns, 1), measured)
        held = self.filter.hold_action(measured)
        if self.filter._state is not state:
            self.judge.say("a chunk moved the filter")
        place = measured.joints if self.joints else measured.position
        if held is not None and not self.relative:
            limits = self.limits
            far = FOLLOWING_S * (limits.joint_speed if self.joints else limits.speed)
            off = np.abs(held[: len(place)] - place)
            off = off[limits.arm] if self.joints else np.linalg.norm(off)
            if (
                off > np.where(np.isfinite(far), far, 0.0)[limits.arm if self.joints else ...] * (1 + 1e-6) + 1e-9
            ).any():
                self.judge.say("holds far from where the robot is", *np.atleast_1d(off))
        judge = copy.copy(self.judge)
        judge.wrong = []
        for step, action in enumerate([] if chunk is None else chunk.actions_HA):
            effect_s = (self.now_ns - 10**18 + step * self.period_ns) / NANOS
            judge.judge(action, effect_s, self.period_ns / NANOS, (place, measured.orientation))
            if self.relative:
                place = place + judge.velocity * self.period_ns / NANOS
        self.judge.wrong += [f"chunk: {wrong}" for wrong in judge.wrong]

    def _chunk(self) -> ActionChunk:
        actions = np.stack([self._command("steps", i) for i in range(4)])
        return ActionChunk(actions, self.now_ns - self.period_ns, self.period_ns, 1)

    def _tick(self, action: Any, *, gentle: bool = False) -> Any:
        measured = self._measurement()
        if self.judge.effect_s is None:  # until the first command the newest measurement is the seed
            self._judge_seed()
        twice = not gentle and self.rng.random() < 0.05
        for wanted in [self._command("steps", 3), action] if twice else [action]:
            result = self.filter.filter(Command(wanted, self.now_ns, self.period_ns), measured)
            self.counts.update(result.interventions)
            self._judge(result, measured)
        self._obey(result)
        self._pass_time(1)
        self._judge_plant()
        return result

    def _judge(self, result: Any, measured: Measured) -> None:
        outside = self._outside(measured)
        if not set(result.interventions) <= REASONS.keys():
            self.judge.say("an unknown reason")
        if result.command is None:
            allowed = {"outside_workspace", "outside_range"} if outside >= 1.0 - 1e-6 else set()
            allowed |= {"degenerate_rotation"}
            if not set(result.interventions) <= allowed & DROPPING:
                self.judge.say(f"dropped without need: {result.interventions}")
            return
        if outside > 1.0 + 1e-6:
            self.judge.say("passed from outside", outside)
        state = measured.joints if self.joints else measured.position
        seconds = self.now_ns - 10**18
        self.judge.judge(result.command.action, seconds / NANOS, self.period_ns / NANOS, (state, measured.orientation))

    def _outside(self, measured: Measured) -> float:
        """How far an absolute action is measured outside its bounds, in steps."""
        limits = self.limits
        if self.relative:
            return 0.0
        judge, now = self.judge, (self.now_ns - 10**18) / NANOS
        effect_s = judge.effect_s
        if judge.before is not None and effect_s == now:
            effect_s = judge.before[4]
        elapsed = limits.control_s if effect_s is None else min(now - effect_s, self.period_ns / NANOS)
        if self.joints:
            off = np.abs(measured.joints - np.clip(measured.joints, limits.lower, limits.upper))
            return float(np.max(off / (limits.joint_speed * elapsed)))
        off = np.linalg.norm(measured.position - np.clip(measured.position, limits.box_low, limits.box_high))
        return float(off / (limits.speed * elapsed))

    def _obey(self, result: Any) -> None:
        if result.command is None:
            self.plant.halt()
            return
        action, period_s = result.command.action, self.period_ns / NANOS
        if self.joints:
            self.plant.go(action, None)
            return
        part = action[3 : 3 + WIDTH[self.rotation]]
        if self.representation == "pose":
            self.plant.go(action[:3], None if self.rotation == "none" else quaternion_of(part, self.rotation))
            return
        time_s = period_s if self.representation == "displacement" else 1.0
        turn = np.zeros(3)
        if self.rotation == "rotation_vector":
            turn = part / time_s
        elif self.rotation != "none":
            turn = logarithm(quaternion_of(part, self.rotation)) / time_s
        hold_s = period_s if self.representation == "displacement" else 1e9
        self.fastest_turn = max(self.fastest_turn, float(np.linalg.norm(turn)))
        self.plant.move(action[:3] / time_s, turn, hold_s, in_tool=self.frame == "tool")

    def _judge_plant(self) -> None:
        """The robot stays in its box, but for what a lag, a turning tool measured late and a missed tick explain."""
        limits, plant, judge = self.limits, self.plant, self.judge
        if self.joints or not np.isfinite(limits.box_low).any():
            return
        fastest = judge.fastest
        allowed = self.gap + fastest * self.missed_s + 1e-9
        if plant.lag_s:
            allowed += fastest * plant.lag_s * math.exp(-TRAIL_S / plant.lag_s) * (1.0 if self.relative else 0.0)
        slack = 1e-9
        if limits.in_tool and limits.relative:
            # Turned by an orientation of one tick ago, a motion leads up to this much elsewhere until it is measured.
            stale_s = limits.control_s if plant.late else 0.0
            turned = min(2.0, self.fastest_turn * (stale_s + limits.control_s))
            slack = fastest * (stale_s + plant.lag_s + self.period_ns / NANOS * turned)
        off = np.maximum(plant.state - limits.box_high, limits.box_low - plant.state).max()
        if off > max(allowed, self.outside) + slack:  # one that was put outside may stay there
            judge.say("the plant left the box", off, allowed, self.outside)
        self.outside = max(float(off), 0.0)

    # Commands

    def _command(self, style: str, tick: int) -> Any:
        """A wild action: of relative actions often too fast, of others often out of reach and out of bounds."""
        rng, limits = self.rng, self.limits
        size = len(limits.lower)
        action = np.zeros(size)
        change = (
            self.wanted is None or (style == "steps" and tick % 5 == 0) or (style == "back and forth" and tick % 8 == 0)
        )
        if change:
            self.wanted = rng.normal(size=size) * 10 ** rng.uniform(-1.5, 0.5)
        if style == "wall":
            self.wanted = np.where(np.abs(self.wanted) < 1.0, np.copysign(1.0, self.wanted), self.wanted)
        scale = min(1.0, (tick + 1) / 10) if style == "ramp" else 1.0
        if self.relative:
            scale *= 0.1 if self.representation == "displacement" else 1.0
        action[:] = self.wanted * scale * rng.choice([1.0, 1.0, 1.0, 0.5, -1.0])
        if self.rotation in ("quaternion", "rot6d") and not self.joints:
            part = slice(3, 3 + WIDTH[self.rotation])
            if self.relative:
                identity = [0, 0, 0, 1.0] if self.rotation == "quaternion" else [1.0, 0, 0, 0, 1.0, 0]
                action[part] += np.array(identity)
            if np.linalg.norm(action[part]) < 1e-3 or (self.rotation == "rot6d" and _flat(action[part])):
                action[part] = [0, 0, 0, 1.0] if self.rotation == "quaternion" else [1.0, 0, 0, 0, 1.0, 0]
        return action

    # Liveness

    def _gentle(self) -> None:
        """From standstill, slow motion well inside everything passes unchanged; a target within reach is reached."""
        low, high = self._bounds()
        self.plant.place((low + high) / 2, np.array([0, 0, 0, 1.0]))
        self.outside = np.inf
        self._pass_time(2)
        self._seed(self._measurement())
        self.gap, self.missed_s = 0.0, 0.0
        step, target = self._slow_step(high - low), self.plant.state.copy()
        for _ in range(3):
            target = target + step
            action = self._action_for(target, step)
            if ((action < self.limits.lower) | (action > self.limits.upper)).any():
                return
            result = self._tick(action, gentle=True)
            if result.interventions or result.command is None or result.command.action is not action:
                self.judge.say(f"a gentle command was changed: {result.interventions}", *step)
                return
        if np.abs(self.plant.set_point - target).max() > 1e-9:
            self.judge.say("did not reach its target")
        if not self.relative and self.rng.random() < 0.4:
            self._arrive(high - low)

    def _slow_step(self, room: Any) -> Any:
        """A motion per command at a third of what is allowed."""
        limits, control = self.limits, self.limits.control_s
        if self.joints:
            allowed = np.minimum(limits.joint_speed * control, limits.joint_acceleration * control * control)
            return 0.3 * np.minimum(allowed, 0.01 * room)
        allowed = min(limits.speed * control, limits.acceleration * control * control, 0.005 * float(room.min()))
        if limits.acceleration < np.inf and self.relative:
            allowed *= control / (self.period_ns / NANOS)
        return 0.3 * allowed * np.array([0.6, -0.6, 0.5])

    def _action_for(self, target: Any, step: Any) -> Any:
        """The action that leads to a target, or of a relative one by a step per command, without a turn."""
        control, action = self.limits.control_s, np.zeros(len(self.limits.lower))
        if self.joints:
            return target.copy()
        if self.representation == "pose":
            action[:3] = target
        else:
            action[:3] = step / control * (self.period_ns / NANOS if self.representation == "displacement" else 1.0)
        if self.rotation in ("quaternion", "rot6d"):
            identity = [0, 0, 0, 1.0] if self.rotation == "quaternion" else [1.0, 0, 0, 0, 1.0, 0]
            action[3 : 3 + len(identity)] = identity
        return action

    def _arrive(self, room: Any) -> None:
        """Told the same target again and again, an absolute action arrives in the time that its limits need."""
        limits, control = self.limits, self.limits.control_s
        speed = limits.joint_speed if self.joints else np.full(3, limits.speed)
        acceleration = limits.joint_acceleration if self.joints else np.full(3, limits.acceleration)
        way = np.minimum(4 * speed * control, 0.2 * room)
        seconds = np.max(np.linalg.norm(way) / speed if not self.joints else way / speed)
        ticks = math.ceil((seconds + np.max(np.sqrt(2 * 3 * way / acceleration))) / control) + 3
        if ticks > 30:
            return
        target = self.plant.set_point + way
        for _ in range(ticks):
            self._tick(self._action_for(target, way), gentle=True)
        if np.abs(self.plant.set_point - target).max() > 1e-9:
            self.judge.say("did not arrive", *(self.plant.set_point - target))


def _flat(values: Any) -> bool:
    a, b, c, d, e, f = values.tolist()
    return abs(b * f - c * e) + abs(c * d - a * f) + abs(a * e - b * d) < 1e-3


def run_seed(seed: int) -> tuple[list[str], Counter[str]]:
    """Run one episode; return the broken rules and what the filter did."""
    episode = Episode(seed)
    return episode.run(), episode.counts


def run_seeds(first: int, count: int) -> dict[str, Any]:
    """Run episodes; return how many, the first broken ones, and the interventions counted."""
    broken: list[tuple[int, list[str]]] = []
    total: Counter[str] = Counter()
    for seed in range(first, first + count):
        wrong, counts = run_seed(seed)
        total.update(counts)
        if wrong:
            broken.append((seed, wrong[:3]))
    return {"seeds": count, "broken": broken, "interventions": dict(total)}


def _processor() -> str:
    """Return the processor's name, where the system tells it, and how many there are."""
    name, path = platform.machine(), Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def main() -> int:
    """Run many seeds on several processes and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--output", type=Path, default=HERE / "fuzz_result.json")
    options = parser.parse_args()
    block, begin = 500, time.monotonic()
    starts = range(options.first, options.first + options.seeds, block)
    counts = [min(block, options.first + options.seeds - start) for start in starts]
    broken: list[Any] = []
    total: Counter[str] = Counter()
    done = 0
    with ProcessPoolExecutor(options.processes) as pool:
        for part in pool.map(run_seeds, starts, counts):
            done += part["seeds"]
            broken += part["broken"]
            total.update(part["interventions"])
            rate = done / (time.monotonic() - begin)
            sys.stderr.write(f"\r{done} of {options.seeds} seeds, {len(broken)} broken, {rate:.0f} per second ")
    sys.stderr.write("\n")
    for seed, wrong in broken[:10]:
        sys.stdout.write(f"seed {seed}: {'; '.join(wrong)}\n")
    result = {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "first_seed": options.first,
        "seeds": options.seeds,
        "broken": len(broken),
        "broken_seeds": [seed for seed, _ in broken[:100]],
        "ticks_per_seed": TICKS,
        "interventions": dict(sorted(total.items())),
        "duration_s": round(time.monotonic() - begin),
        "processor": _processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
