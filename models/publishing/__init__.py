"""Publish models: test scores, cards and tables."""
