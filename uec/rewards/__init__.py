"""Reward functions, those of the user included, and the killable processes that run them."""
