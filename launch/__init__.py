"""Set-up and start of runs: `make setup`, `ray job submit`, clusters and one node. This folder contains no training logic."""
