"""From bytes to arrays: untrusted files are decoded within limits and prepared for a network."""
