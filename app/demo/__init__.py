"""GET /demo: the pages for people."""
