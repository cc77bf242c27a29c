"""Shared parts of /api, /v1, /v2 and /demo: bodies, answers, errors, keys and limits."""
