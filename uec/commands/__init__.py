"""The commands of `uec`, a file each.

A file has NAME, HELP, DESCRIPTION and EXAMPLES for `--help`, `arguments(parser)`, and `run(arguments)`, which returns the exit status and
raises BadInput and RunFailed. Nothing heavy is imported before `run`: `uec --help` is immediate.
"""
