"""Tracking of a run: the metrics' names, and the console, files and services that show them."""
