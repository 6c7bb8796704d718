"""Kernels for accelerators: a module per backend, in parts that it shares."""
