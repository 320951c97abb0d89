"""Environments: the contract (base.py) and the reward function as an environment of one turn (single_turn.py)."""
