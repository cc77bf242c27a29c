"""Answers that processes of a bulk job give in tests, which name what happens."""

import os
import signal
import time
from collections.abc import Iterator

from app.bulk.answers import Order
from app.bulk.sources import Listed, read_picture
from app.bulk.tables import Row, name_in_tables

DEADLY = b"kills the process that reads it"


def answer(order: Order, pictures: tuple[Listed, ...]) -> Iterator[Row]:
    """Yield a row for each picture with its first byte as its label; DEADLY kills the process."""
    for picture in pictures:
        data = read_picture(order.source, picture, 1000)
        if data == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        label = data[:1].decode()
        yield Row(name_in_tables(picture.name), label, "0.500000", "true")


def unhurried(order: Order, pictures: tuple[Listed, ...]) -> Iterator[Row]:
    """Yield the same, but take 20 ms a picture, so that a kill has something to hit."""
    for row in answer(order, pictures):
        time.sleep(0.02)
        yield row


def stuck(order: Order, pictures: tuple[Listed, ...]) -> Iterator[Row]:
    """Yield nothing, ever."""
    while True:
        time.sleep(3600)
    yield Row("")
