"""For `gunicorn wsgi:app`, which reads this file: its workers count together.

`python wsgi.py` does not need it.
"""

from typing import Any

from app.runtime import use_runtime_folder
from app.web.rate_limit_store import table

use_runtime_folder()
table()  # of rate limits: what is made before the fork is shared by all workers


def child_exit(_: Any, worker: Any) -> None:
    """A worker has ended; what it counted has not."""
    from app.telemetry.metrics import keep_counts_of

    keep_counts_of(worker.pid)
