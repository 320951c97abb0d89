"""Benches: each file measures the cost of one part against a bound; `uec bench [NAMES]` runs them (docs/performance.md)."""
