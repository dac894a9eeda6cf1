"""Parts that know the order of frames."""
