"""How a command ends without a record."""


class RefusalError(Exception):
    """What the user asked for cannot be done; the message says why."""


class SharedError(Exception):
    """A share of the runs is done; the message says how many."""
