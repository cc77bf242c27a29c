"""Import Keras without the messages that TensorFlow prints."""

import os
import sys
import tempfile


def import_keras() -> None:
    """Import Keras and its backend. Show their messages on stderr only if the import fails.

    TensorFlow's libraries write to stderr while they are loaded, before they read any setting, and
    not through Python. So the file descriptor itself is redirected in the meantime.
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
