"""The Ray actors, one file each."""
