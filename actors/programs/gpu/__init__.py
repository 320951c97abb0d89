"""The checks of `uec doctor --gpu`: a random model on the project's own actors, on one GPU or more."""
