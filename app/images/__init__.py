"""From bytes to arrays: foreign files decoded within bounds, and prepared for a network."""
