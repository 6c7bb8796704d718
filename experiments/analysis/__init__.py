"""What a step costs with each norm, and what small batches do to its gradient."""
