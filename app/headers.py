"""The security headers of every answer, whichever part of the service makes it."""

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
# The Content-Security-Policy of answers that are not pages.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
