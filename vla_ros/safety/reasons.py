"""What the safety filter does to a command, by name. The names are counted; the sentences are for people."""

STOP_LATCHED = "stop_latched"
NOT_FINITE = "not_finite"
DEGENERATE_ROTATION = "degenerate_rotation"
POSITION_UNKNOWN = "position_unknown"
OUTSIDE_WORKSPACE = "outside_workspace"
OUTSIDE_RANGE = "outside_range"
FOLLOWING_ERROR = "following_error"
LIMIT = "limit"
SPEED = "speed"
ANGULAR_SPEED = "angular_speed"
ACCELERATION = "acceleration"
ANGULAR_ACCELERATION = "angular_acceleration"
WORKSPACE = "workspace"
SCAN_UNKNOWN = "scan_unknown"
CLEARANCE = "clearance"

REASONS: dict[str, str] = {
    STOP_LATCHED: "a stop is latched",
    NOT_FINITE: "a number of the action is not finite, or too large to be one",
    DEGENERATE_ROTATION: "the rotation of the action stands for no rotation",
    POSITION_UNKNOWN: "the measured state of the robot is not known",
    OUTSIDE_WORKSPACE: "the end effector is measured outside the workspace; move it back by hand",
    OUTSIDE_RANGE: "a joint is measured outside its range; move it back by hand",
    FOLLOWING_ERROR: "the robot does not follow: its measured state is too far from what it was commanded to",
    LIMIT: "a number of the action was limited to its range",
    SPEED: "the speed of the end effector was limited",
    ANGULAR_SPEED: "the angular speed, or the speed of a joint, was limited",
    ACCELERATION: "the acceleration, or the acceleration of a joint, was limited",
    ANGULAR_ACCELERATION: "the angular acceleration was limited",
    WORKSPACE: "motion out of the workspace was removed",
    SCAN_UNKNOWN: "the scan that the base keeps clear by is not known",
    CLEARANCE: "the speed towards what the scan shows was limited",
}
"""Name → what was done, or why the command was dropped, in one sentence without its full stop."""

DROPPING = frozenset(
    {
        STOP_LATCHED,
        NOT_FINITE,
        DEGENERATE_ROTATION,
        POSITION_UNKNOWN,
        OUTSIDE_WORKSPACE,
        OUTSIDE_RANGE,
        FOLLOWING_ERROR,
        SCAN_UNKNOWN,
    }
)
"""Those for which no command is given."""
