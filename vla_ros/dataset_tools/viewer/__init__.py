"""A dataset as a folder of static pages that a browser opens without a server and without the network."""

from vla_ros.dataset_tools.viewer.pages import write_pages

__all__ = ["write_pages"]
