"""The model repository as the service sees it: the served models, and their sessions."""
