"""Data sets: reading rows, templating and tokenising prompts, checking and decoding images, and the order in which prompts are drawn."""
