"""The service's version. tests/test_deploy.py compares the packaging with it."""

VERSION = "0.1.0"
