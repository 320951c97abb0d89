"""What is measured on held-out prompts."""
