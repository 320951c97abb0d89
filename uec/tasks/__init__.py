"""The tasks that ship, a folder each: data, reward and the cold start of a small model."""
