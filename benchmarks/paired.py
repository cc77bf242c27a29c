"""Compare the cost of a request with that in another checkout, such as the last release.

    git worktree add ../before TAG
    python -m benchmarks.paired ../before [--rounds 60] [--image FILE ...]

Two processes, one in each checkout, take turns of ten requests, so that other load on the computer
affects both. The output is the median processor time of a request in microseconds, and the median
of the ratios of all rounds with its quartiles. Without `--image`, the pictures are those of the
table in benchmarks/README.md. The time of a separate decoding process is not included, because
these pictures are decoded in the process itself.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.stages import SAMPLE, like_the_data_set

TURN, WARM_UP = 10, 5  # requests in a turn; rounds that are not counted
ASKED = r"""
import io, os, sys, time
from pathlib import Path
from urllib3.filepost import encode_multipart_formdata
from app import create_app
application = create_app()
url, picture = sys.argv[1], Path(sys.argv[2])
body, kind = encode_multipart_formdata({"file": ("image.png", picture.read_bytes())})
out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # log lines
def ask():
    environment = {
        "REQUEST_METHOD": "POST", "PATH_INFO": url, "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "127.0.0.1:5000",
        "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "wsgi.multithread": False,
        "wsgi.multiprocess": False, "wsgi.run_once": False, "wsgi.version": (1, 0),
    }
    started = time.process_time_ns()
    answered = application(environment, lambda *_: lambda _: None)
    content = b"".join(answered)
    answered.close()
    assert b'"predictions"' in content, content
    return time.process_time_ns() - started
for line in sys.stdin:
    print(*(ask() for _ in range(int(line))), file=out)
"""


def pictures(folder: Path) -> list[tuple[str, Path]]:
    """Return (endpoint, file) of the default pictures, which are written to `folder`."""
    found = []
    for endpoint in ("mnist/lenet", "fashion-mnist/lenet", "cifar10/lenet"):
        path = folder / f"{endpoint.partition('/')[0]}-28x28.png"
        path.write_bytes(like_the_data_set(endpoint))
        found.append((endpoint, path))
    photo = folder / "photo.jpg"
    noise = Image.effect_noise((30, 30), 90).resize((300, 300)).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    photo.write_bytes(buffer.getvalue())
    return [
        *found,
        ("mnist/lenet", SAMPLE),
        ("fashion-mnist/lenet", SAMPLE.parent.parent / "fashion-mnist/bag.png"),
        ("cifar10/lenet", photo),
    ]


def microseconds(
    checkouts: tuple[Path, Path], endpoint: str, picture: Path, rounds: int
) -> list[tuple[float, float]]:
    """Return, for each round, the cost of a request in both checkouts in microseconds."""
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", ASKED, f"/api/{endpoint}", str(picture.resolve())],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout.resolve())},
        )
        for checkout in checkouts
    ]
    found = []
    try:
        for turn in range(WARM_UP + rounds):
            took = [0.0, 0.0]
            for one in (0, 1) if turn % 2 else (1, 0):  # each comes first in every second round
                asked[one].stdin.write(f"{TURN}\n")
                asked[one].stdin.flush()
                took[one] = statistics.median(map(int, asked[one].stdout.readline().split())) / 1e3
            if turn >= WARM_UP:
                found.append((took[0], took[1]))
    finally:
        for process in asked:
            process.kill()
            process.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--model", default="mnist/lenet", help="asked about each --image")
    parser.add_argument("--image", type=Path, action="append", default=[])
    wanted = parser.parse_args()
    checkouts = wanted.before, Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        chosen = [(wanted.model, path) for path in wanted.image] or pictures(Path(folder))
        print(f"{'':44} before     now   now / before (quartiles)")
        for endpoint, picture in chosen:
            pairs = microseconds(checkouts, endpoint, picture, wanted.rounds)
            before, now = (statistics.median(side) for side in zip(*pairs, strict=True))
            low, middle, high = statistics.quantiles([b / a for a, b in pairs], n=4)
            print(
                f"{endpoint:20} {picture.name:22} {before:7.0f} {now:7.0f}   "
                f"{middle:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
