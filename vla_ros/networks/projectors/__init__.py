"""Tokens of one encoder → fewer or wider tokens."""
