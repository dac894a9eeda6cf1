"""What is done with a finished LeRobotDataset: inspected, checked, edited, shown, and turned back into bags.

A result appears under its name only when it is whole and was verified; the dataset that is read is never changed.
"""
