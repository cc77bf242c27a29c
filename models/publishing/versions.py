"""The versions of a model: folders with whole numbers as their names."""

from pathlib import Path


def next_version(folder: Path) -> int:
    """Return the number after the newest version in `folder`, which may not exist yet."""
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return 1 + max(versions, default=0)
