"""What the algorithm is: configuration, data, rewards, losses, evaluation, tracking. Imports neither Ray nor vLLM."""
