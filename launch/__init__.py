"""Ways to start a run: `ray job submit`, clusters, one node. No logic lives here."""
