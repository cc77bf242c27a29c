"""Votes of the people who get answers: their predictions are kept, and their votes recorded."""
