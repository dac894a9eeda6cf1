"""Text tokens → embeddings, and weights of published language models."""
