"""Countdown: reach a number with given numbers and arithmetic."""
