"""gunicorn: the master, its workers, and reloads."""
