"""Keras without the lines that TensorFlow prints about itself."""

import os
import sys
import tempfile


def import_keras() -> None:
    """Import Keras and its backend, and print on stderr only what goes with a failure.

    TensorFlow's libraries write there while they are loaded, before any setting of theirs is read,
    and past Python: so the file descriptor leads elsewhere meanwhile.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import keras  # noqa: F401
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
