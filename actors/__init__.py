"""The Ray processes of a run, one file an actor. No mathematics: thin classes over the functions of uec/."""
