"""The configuration of `gunicorn wsgi:app`: its workers share their counts.

`python wsgi.py` does not use this file.
"""

from typing import Any

from app.runtime import use_runtime_folder
from app.web.rate_limit_store import table

use_runtime_folder()
table()  # of rate limits: made before the fork, so that all workers share it


def child_exit(_: Any, worker: Any) -> None:
    """Keep the counts of a worker that has ended."""
    from app.telemetry.metrics import keep_counts_of

    keep_counts_of(worker.pid)
