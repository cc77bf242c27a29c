import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is marked `data` where no folder with real data sets is named."""
    if "METAPLASTIC_DATA" not in os.environ:
        skip = pytest.mark.skip(reason="METAPLASTIC_DATA names no folder with real data sets")
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(skip)
