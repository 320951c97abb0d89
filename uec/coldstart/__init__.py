"""Supervised training of the small start checkpoints that ship with the project."""
