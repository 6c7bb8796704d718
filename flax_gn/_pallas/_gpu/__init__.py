"""Kernels for a GPU, and how they cut their arrays."""
