"""From prepared pictures to answers: classify, compare, explain. Knows nothing of HTTP."""
