import importlib.util
import os

import pytest

# A process for each core works already. Further threads of PyTorch and of numpy would spin while
# they wait for those of other processes: ten times the processor time for small networks.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests too")


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: tests of servers mostly wait."""
    return (os.cpu_count() or 1) + 1


def runs_slow_tests(config: pytest.Config) -> bool:
    """Return whether slow tests run: all were asked for, or single tests were named."""
    return bool(config.option.all) or any("::" in argument for argument in config.args)


def is_slow(item: pytest.Item) -> bool:
    """Return whether a test is marked as slow, or needs networks that must be trained first."""
    return bool(item.get_closest_marker("slow")) or "runs" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests, and skip those that need what this machine does not have."""
    for item in items:
        if item.get_closest_marker("data") and "METAPLASTIC_DATA" not in os.environ:
            reason = "METAPLASTIC_DATA names no folder with real data sets"
            item.add_marker(pytest.mark.skip(reason=reason))
        for marker in item.iter_markers("needs"):
            (package,) = marker.args
            if importlib.util.find_spec(package) is None:
                reason = f"{package} is not installed: pip install -r requirements-backends.txt"
                item.add_marker(pytest.mark.skip(reason=reason))
    if not runs_slow_tests(config):
        config.hook.pytest_deselected(items=[item for item in items if is_slow(item)])
        items[:] = [item for item in items if not is_slow(item)]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not runs_slow_tests(config):
        terminalreporter.write_line("Without the slow tests: `python -m pytest --all` runs all.")
