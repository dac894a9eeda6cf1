"""Settings that hold for every test."""

import os

# Set before torch is imported: with small tensors, threads that wait for a busy core cost far more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
