"""What /api, /v1, /v2 and /demo share: bodies, answers, errors, keys and limits."""
