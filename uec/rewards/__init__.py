"""Graders of responses, the user's own among them, and the killable processes they run in."""
