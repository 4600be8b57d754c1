"""Faults of the input, told to people."""


class UserError(ValueError):
    """Wrong input: the message says what was found, what was expected and what to do.

    The command line prints the message alone and exits with status 2; in Python it is a ValueError.
    """
