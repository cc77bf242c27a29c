"""The model repository as the service sees it: what is served, and each model's session."""
