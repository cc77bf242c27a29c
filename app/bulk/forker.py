"""What the process that forks a bulk job's processes imports first: it ends with the command."""

import os

from app.parent_process import end_with_parent

end_with_parent(os.getppid())
