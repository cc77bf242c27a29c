"""The Keras backend of commands that tests run where any of them will do."""

from importlib.util import find_spec

# On a CPU PyTorch learns in the least time, but not everybody has it.
FASTEST = "torch" if find_spec("torch") else "tensorflow"
