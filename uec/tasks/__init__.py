"""The tasks that ship, one folder each: data, reward function, and the training of a small initial model."""
