"""How many groups, or how many channels in each."""
