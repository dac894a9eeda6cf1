"""The policy node's parameters."""

from vla_ros.nodes.common.parameters import ParameterRow
from vla_ros.registry import BACKENDS
from vla_ros.runtime import EXECUTION_MODES

POLICY_PARAMETERS = (
    ParameterRow("checkpoint", "", "Folder of the checkpoint to run; required."),
    ParameterRow("contract", "", "The robot's contract; empty takes the copy that lies in the checkpoint."),
    ParameterRow("device", "cpu", "torch device of the policy, e.g. cpu or cuda:0."),
    ParameterRow("autostart", False, "Configure and activate at once, for those without a lifecycle manager."),
    ParameterRow("exit_on_failure", True, "With autostart: end the process, with exit code 2, when that fails."),
    ParameterRow(
        "enable_control",
        False,
        "Publish on the contract's sinks. False is a dry run: everything but the commands.",
        read_only=False,
    ),
    ParameterRow(
        "lock_step",
        False,
        "Answer every observation with one command as soon as it is decided, for a lock-step simulator.",
    ),
    ParameterRow(
        "episode_status_topic",
        "",
        "EpisodeStatus topic of a simulated robot, whose episodes clear history, state and chunks.",
    ),
    ParameterRow("instruction", "", "What the policy is told to do at first; empty takes the contract's default."),
    ParameterRow(
        "chunk_mode", "latest", "How action chunks are executed; see docs/parameters.md.", choices=EXECUTION_MODES
    ),
    ParameterRow(
        "n_action_steps",
        0,
        "With receding_horizon, steps executed before the next chunk; 0 takes the policy's own.",
        unit="steps",
        minimum=0,
    ),
    ParameterRow(
        "ensemble_decay", 0.01, "With temporal_ensemble, m in the weights exp(-m i), i = 0 the oldest chunk.", minimum=0
    ),
    ParameterRow(
        "inference",
        "thread",
        "Where the policy predicts: a thread of the node, or a process of its own, which is replaced when it hangs or "
        "dies and whose Python work costs no control ticks; or a backend of another package.",
        choices=BACKENDS.names(),
    ),
    ParameterRow(
        "max_inference_s",
        10.0,
        "A prediction that takes longer is a fault: the robot is told to stand still until it ends, or until its "
        "process is replaced.",
        unit="s",
        minimum=0.001,
    ),
    ParameterRow(
        "seed", -1, "Seed of a sampling policy's noise at every episode's begin; -1 draws fresh noise.", minimum=-1
    ),
    ParameterRow(
        "torch_threads", 0, "Threads of a forward pass; 0 leaves one core to the node.", unit="threads", minimum=0
    ),
    ParameterRow("warm_up_runs", 3, "Predictions on a blank observation before the policy counts as ready.", minimum=0),
)
