"""The two ways in which a run ends that are not success, and their exit statuses."""

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_SIGHUP = 129
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class BadInput(Exception):
    """What the user gave cannot work: exit status 2, raised before any actor starts.

    The message names the field, file or line, says what was expected, and how to fix it.
    """


class RunFailed(Exception):
    """A failure that was named while the run was going on: exit status 1, checkpoints stay."""
