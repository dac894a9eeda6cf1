"""Attention, its masks and its positions. Tokens in, tokens out; which token means what is the caller's."""
