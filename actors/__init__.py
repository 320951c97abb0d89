"""The Ray processes of a run and the driver that directs them. No mathematics: thin classes over the functions of uec/."""
