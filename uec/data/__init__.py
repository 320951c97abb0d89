"""Prompts: where rows come from, how they become token ids, in which order they are taken, and the CPU default task."""
