"""Data sets: where they come from, how images are changed, and batches of them."""
