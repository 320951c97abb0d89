"""The Ray cluster; the placement, start, replacement and logs of actors; and the signals that end a run."""
