"""The loss of an optimizer step, on concatenated response tokens [N] without padding or masks.

A policy loss maps a `TokenBatch` and the config's `loss` section to (loss_N, metric sums). `objective.py` joins it with the
KL, the entropy term, the correction of the behaviour policy and the aggregation.
"""
