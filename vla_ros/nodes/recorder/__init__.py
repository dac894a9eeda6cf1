"""The recorder of episodes: an episode, a bag."""
