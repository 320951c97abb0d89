"""The settings of a run: schema, YAML files and overrides, checks, and documentation. This package imports nothing heavy."""
