"""The two errors that end a command with a message, and the exit statuses."""

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_SIGHUP = 129
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class BadInput(Exception):
    """Input that cannot work: exit status 2, raised before any actor starts.

    The message names the field, file or line, the expected value, and the fix.
    """


class RunFailed(Exception):
    """A failure during the run that the message explains: exit status 1; checkpoints are kept."""
