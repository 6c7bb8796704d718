"""A batch-norm network turned into a group-norm network, and trained on."""
