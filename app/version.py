"""The service's version; tests/test_deploy.py holds the packaging to it."""

VERSION = "0.1.0"
