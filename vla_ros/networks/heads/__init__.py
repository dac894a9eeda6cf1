"""Features → action numbers, directly or from noise."""
