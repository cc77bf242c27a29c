"""gunicorn as this service runs it: the master, its workers, their connections, and reloads."""
