"""Kernels for a TPU, and how they cut their arrays."""
