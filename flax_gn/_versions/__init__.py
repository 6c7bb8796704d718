"""What differs between the versions of jax and Flax that are promised.

Each entry says which version lets it go: once that is the oldest one promised, the
newest way alone is left, and moves to where it is used. The functions need no Flax,
which takes longer to import than jax does; hence two modules.
"""
