"""What keeps the actors of a run alive: the Ray cluster, their placement, start, replacement and logs, and the signals that end a run."""
