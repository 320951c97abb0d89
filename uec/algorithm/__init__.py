"""The algorithm: pure functions of numbers and tensors, one idea a file.

An advantage maps rewards_G to advantages_G; a policy loss maps log-probabilities, old log-probabilities and advantages
of response tokens [N] to (loss_N, metric sums).
"""
