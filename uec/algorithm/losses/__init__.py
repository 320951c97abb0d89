"""What an optimizer step minimises, on response tokens laid end to end [N]: no padding, no masks.

A policy loss maps a `TokenBatch` and the config's `loss` section to (loss_N, metric sums). `objective.py` joins it with the
KL, the entropy term, the correction of the behaviour policy and the aggregation.
"""
