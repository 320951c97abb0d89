"""The settings of a run: their schema, how YAML files and overrides become a config, and the checks. Imports nothing heavy."""
