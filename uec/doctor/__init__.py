"""What `uec doctor` looks at on this machine before any actor starts: a file a subject, a small function a line of its report.

The round trip, which needs actors, is actors/programs/doctor.py.
"""
