"""A deeper residual network, and a network without shortcuts."""
