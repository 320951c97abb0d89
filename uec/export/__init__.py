"""Export of a run's model: weights and tokenizer, sampling defaults, and a model card that describes the training."""
