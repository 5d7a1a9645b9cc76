"""What an operator may be told. Everything else is a bug and keeps its traceback."""


class OpsError(Exception):
    """Something that the operator can act upon; its text is one sentence. The command exits with code 2."""
