"""The demonstration: pages for people."""
