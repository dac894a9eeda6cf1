"""The rows of the message types, one module per ROS package: what a type can be, how it is decoded and encoded.

A module holds ``ROWS``, and every module here is read. Contracts load them, so nothing heavier than numpy is imported
before a message is decoded, and no ROS package at all.
"""
