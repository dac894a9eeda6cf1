"""Images → feature maps, vectors or tokens: backbones, poolings, tokenisers. No feature keys, no actions."""
