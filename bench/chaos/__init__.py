"""Chaos: kill, stop, damage and fill a real training run at random moments, then check its books (docs/chaos.md)."""
