"""What several architectures share: options, reading an observation, objectives of an action chunk. No architecture."""
