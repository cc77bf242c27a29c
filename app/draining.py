"""What is left of a refused upload is read and thrown away, so that its sender sees the answer.

A server that closes a connection while the client still sends makes the client's system report
"connection reset" and discard the answer, here the JSON that says what was wrong.
"""

import time

from flask import Response, request

MAX_SECONDS = 5.0
MAX_REQUESTS = 4  # as many times the largest request
_CHUNK = 64 * 1024


def drain_unread_body(response: Response) -> Response:
    """Have gunicorn, once it has sent an error, read the rest of the request within bounds."""
    connection = request.environ.get("gunicorn.socket")
    if response.status_code < 400 or connection is None:
        return response
    body = request.environ["wsgi.input"]
    limit = MAX_REQUESTS * (request.max_content_length or 0)

    def drain() -> None:
        deadline, left = time.monotonic() + MAX_SECONDS, limit
        patience = connection.gettimeout()
        try:
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                connection.settimeout(seconds)
                data = body.read(_CHUNK)
                if not data:
                    break
                left -= len(data)
        except OSError:
            return  # too slow, or gone: there is nobody left to spare a reset
        finally:
            connection.settimeout(patience)

    response.call_on_close(drain)
    return response
