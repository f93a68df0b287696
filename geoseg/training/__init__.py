"""Training models on scenes and labels."""
