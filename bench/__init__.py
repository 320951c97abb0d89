"""What the parts cost, against bounds: one file a bench, `uec bench [NAMES]` runs them (docs/performance.md)."""
