"""Whether a dataset is worth training on: families of checks, each finding with its fix."""

from vla_ros.dataset_tools.validation.findings import Finding, Severity, exit_code
from vla_ros.dataset_tools.validation.run import FAMILIES, validate

__all__ = ["FAMILIES", "Finding", "Severity", "exit_code", "validate"]
