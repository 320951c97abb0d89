"""The Ray processes of a run and the driver that directs them. Their classes are thin and contain no mathematics, which is in uec/."""
