"""Parts of another package: every kind that a configuration of vla_ros may name."""
