"""From prepared pictures to answers: classify, compare, explain. Independent of HTTP."""
