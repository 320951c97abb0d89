"""The checks of `uec doctor` that start no actor, by subject; each check returns a line of the report.

The round trip, which needs actors, is actors/programs/doctor.py.
"""
