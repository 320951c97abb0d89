"""Policies: loading a model, packing rows into micro-batches, log-probabilities, the policy update and its state."""
