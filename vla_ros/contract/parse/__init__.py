"""YAML → `RobotContract`: the fields as `schema` declares them, and the checks between them, a file a section."""

from vla_ros.contract.parse.top_level import load_contract, parse_contract

__all__ = ["load_contract", "parse_contract"]
