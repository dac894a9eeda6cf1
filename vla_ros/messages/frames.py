"""Frames that messages name, held to the contract's (REP-105)."""

from vla_ros.data_types import DecodeError
from vla_ros.data_types.foreign_text import plain


def check_frame(got: str, expected: str, place: str, field: str = "frame_id") -> None:
    """Refuse a message whose frame is not the contract's.

    Raises:
        DecodeError: They differ.
    """
    if got != expected:
        raise DecodeError(
            f"{place}: {field} is '{plain(got)}', the contract says '{expected}'; correct the one that is wrong"
        )
