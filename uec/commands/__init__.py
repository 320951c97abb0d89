"""The commands of `uec`, one file per command.

A file has NAME, HELP, DESCRIPTION and EXAMPLES for `--help`, `arguments(parser)`, and `run(arguments)`, which returns the exit status and
raises BadInput and RunFailed. Only `run` imports heavy modules, so that `uec --help` is immediate.
"""
