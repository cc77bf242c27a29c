"""The headers that protect the browser of whoever opens an answer, whichever part made it."""

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
# The Content-Security-Policy of an answer that is no page.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
