"""Inference engines behind one contract (base.py). Each folder is one engine."""
