"""gunicorn's parser and WSGI: from a complete request to the application's answer."""

from io import BytesIO
from typing import Any

from gunicorn.http import get_parser, wsgi
from gunicorn.http.errors import NoMoreData, UnsupportedTransferCoding

from app.errors import RequestError, http_bytes
from app.server.connection import Connection
from app.server.refusals import CODED, INCOMPLETE, NO_HOST


def answer(connection: Connection, worker: Any) -> None:
    """Have the application of `worker` answer the request that has come on `connection`."""
    request = None
    connection.closing, connection.lingers = True, True
    all_taken = connection.all_taken
    try:
        if worker.direct.answer(connection):
            connection.lingers = not all_taken
            return
        request = parse(connection, worker.cfg)
        connection.closing = _call(request, connection, worker)
        connection.lingers = not all_taken
    except RequestError as error:
        worker.log.warning("Invalid request from ip=%s: %s", connection.address[0], error)
        connection.answer(http_bytes(error, connection.path))
    except Exception as error:
        connection.answer()
        worker.handle_error(request, connection, connection.address, error)


def _call(request: Any, connection: Connection, worker: Any) -> bool:
    """Collect the application's answer. Return whether the connection is closed after it."""
    response, environ = prepare(request, connection, worker.server_address, worker.cfg)
    answered = worker.wsgi(environ, response.start_response)
    if worker.closes(connection):
        response.force_close()
    try:
        for part in answered:
            response.write(part)
        response.close()
    finally:
        if hasattr(answered, "close"):
            answered.close()
    return bool(response.should_close())


def parse(connection: Connection, cfg: Any) -> Any:
    """Return gunicorn's request for what has arrived.

    Raises RequestError if it is incomplete or has a transfer coding, and gunicorn's errors if it is
    not HTTP.
    """
    try:
        request = next(get_parser(cfg, connection, connection.address))
    except (NoMoreData, StopIteration):
        raise INCOMPLETE.again() from None
    except UnsupportedTransferCoding:
        raise CODED.again() from None
    if connection.chunked and _codings(request) - {"chunked", "identity"}:
        raise CODED.again()
    if request.version >= (1, 1) and not any(name == "HOST" for name, _ in request.headers):
        raise NO_HOST.again()
    return request


def _codings(request: Any) -> set[str]:
    values = [value for name, value in request.headers if name == "TRANSFER-ENCODING"]
    return {coding.strip().lower() for value in values for coding in value.split(",")}


def prepare(
    request: Any, connection: Connection, server: tuple[str, int], cfg: Any
) -> tuple[Any, dict[str, Any]]:
    """Return gunicorn's response, which writes to `connection`, and the WSGI environment.

    The body moves from `connection` to the environment. Raises as `parse` does.
    """
    response, environ = wsgi.create(request, connection, connection.address, server, cfg)
    if connection.chunked:
        try:
            body = request.body.read()
        except NoMoreData:
            raise INCOMPLETE.again() from None
        connection.forget_request()
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    else:
        body = connection.take_body()
    environ["wsgi.input"] = BytesIO(body)
    return response, environ
