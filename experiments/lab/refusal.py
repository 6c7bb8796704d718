"""How an experiment says that it cannot do what it was asked."""


class RefusalError(Exception):
    """The command line asks for something that cannot be."""
