"""A run's model as a folder for others: weights and tokenizer, sampling defaults, and a card that says how it was made."""
