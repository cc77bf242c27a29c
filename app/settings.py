"""The service's settings: one frozen object, read from METAPLASTIC_* variables.

Each field of Settings is one variable. Its default, unit and meaning stand beside it as data, from
which markdown_table makes the table in the documentation.
"""

# ruff: noqa: RUF009  (the calls in the dataclass make fields, as dataclasses.field does)

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from models.processor import multiplies_int8

PREFIX = "METAPLASTIC_"
# Variables with the prefix that `python -m models` reads, and not the service.
_OTHER_VARIABLES = frozenset({"METAPLASTIC_DATA"})
# The variables that Kubernetes sets in a pod for a Service called metaplastic or metaplastic-*.
_SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")
CLOUD_PORT = "PORT"
EVERYWHERE = "0.0.0.0"  # noqa: S104
MEBIBYTE = 1024 * 1024
MEGAPIXEL = 1_000_000

T = TypeVar("T")


class StartError(Exception):
    """A reason why the service cannot start: a line for each problem, and what to do."""


class SettingsError(StartError):
    """A variable that cannot be used: its name, what was expected and what was found."""


def _setting(
    default: T, parse: Callable[[str], T], unit: str, meaning: str, shown: str | None = None
) -> T:
    """Return a field of Settings. `parse` raises ValueError with what it expected."""
    table_row = {"parse": parse, "unit": unit, "meaning": meaning, "shown": shown}
    return field(default=default, metadata=table_row)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() alone would also accept spaces, underscores and other scripts' digits.
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return parse


# The user and the password of a URL. Messages go to logs.
_PASSWORD = re.compile(r"//\S*@")


def _switch(text: str) -> bool:
    return _choice("on", "off")(text) == "on"


def _matching(pattern: str, description: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(description)
        return text

    return parse


def _share(text: str) -> float:
    if not re.fullmatch(r"0|1|0?\.[0-9]{1,6}|[01]\.0{1,6}", text):
        raise ValueError("a number from 0 to 1, such as 0.1")
    return float(text)


def _host(text: str) -> str:
    # A URL has brackets around an IPv6 address, and people copy them with the address.
    address = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return _matching(r"[0-9A-Za-z.:_-]+", "an address or a host name")(address)


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(","))
    if not all(re.fullmatch(r"\*|https?://[^\s/,]+", origin) for origin in origins):
        raise ValueError("origins such as https://example.org, joined by commas, or *")
    return origins


CPU = "CPUExecutionProvider"


def _providers(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    known = all(re.fullmatch("[A-Za-z0-9]+ExecutionProvider", name) for name in names)
    if not known or len(set(names)) < len(names):
        raise ValueError(
            f"ONNX Runtime's providers, such as CUDAExecutionProvider,{CPU}, each of them once"
        )
    return names


# Flask-Limiter's syntax, of which it accepts more: 100/minute, 5 / 10 seconds.
_RATE = r"[1-9]\d{0,8} ?/ ?([1-9]\d{0,4} ?)?(second|minute|hour|day)s?"
_RATES = f"{_RATE}( ?; ?{_RATE})*"
_BUNDLED_REPOSITORY = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class Settings:
    """All settings of the service, with their defaults."""

    host: str = _setting(
        "127.0.0.1",
        _host,
        "address",
        "the address to listen on; 0.0.0.0 is every network interface (the container sets it)",
    )
    port: int = _setting(
        5000,
        _whole(1, 65535),
        "TCP port",
        "the port to listen on; without it, `PORT` is used, on 0.0.0.0 unless METAPLASTIC_HOST "
        "is set",
    )
    weights: Path = _setting(
        _BUNDLED_REPOSITORY,
        Path,
        "folder",
        "the models to serve: a model repository, a part of one, or a single run",
        shown="`weights` beside wsgi.py",
    )
    model: str = _setting(
        "mnist/lenet",
        _matching(r"[^/\s]+/[^/\s]+", "<dataset>/<architecture>, such as mnist/lenet"),
        "endpoint",
        "the endpoint of POST /predict; if the model repository lacks it, the first endpoint",
    )
    int8: str = _setting(
        "auto",
        _choice("auto", "off"),
        "choice",
        "auto: run a model's `model.int8.onnx`, if it has one and the processor multiplies 8-bit "
        "integers (VNNI, or asimddp on ARM); off: always `model.onnx`",
    )
    providers: tuple[str, ...] = _setting(
        (CPU,),
        _providers,
        "names",
        "what ONNX Runtime computes on, the first choice first, such as "
        f"`CUDAExecutionProvider,{CPU}`",
        shown=f"`{CPU}`",
    )
    workers: int = _setting(
        2,
        _whole(1, 256),
        "processes",
        "requests that are answered at the same time; one for each core",
    )
    timeout: int = _setting(
        30, _whole(1, 3600), "seconds", "a worker that does not respond for this time is replaced"
    )
    graceful_timeout: int = _setting(
        30, _whole(1, 3600), "seconds", "the time that running requests have when the service stops"
    )
    read_timeout: int = _setting(
        60, _whole(1, 3600), "seconds", "a request that takes longer to arrive gets 408"
    )
    keep_alive: int = _setting(
        75,
        _whole(1, 3600),
        "seconds",
        "an idle connection stays open for this time; load balancers usually close theirs after 60",
    )
    max_waiting: int = _setting(
        8,
        _whole(1, 2048),
        "requests",
        "the maximum queue length; beyond it the oldest requests get 503",
    )
    max_connections: int = _setting(
        1000,
        _whole(1, 100_000),
        "connections",
        "the most open connections of a worker; beyond it the longest idle one is closed",
    )
    max_request_mib: int = _setting(32, _whole(1, 1024), "MiB", "the largest request")
    max_images: int = _setting(128, _whole(1, 10_000), "images", "the most images in one request")
    max_megapixels: int = _setting(
        50,
        _whole(1, 178),  # Pillow refuses pictures of more pixels
        "million pixels",
        "the largest image, checked before it is decoded; METAPLASTIC_MAX_DECODE_MIB also limits "
        "WebP, AVIF and HEIC",
    )
    max_work: int = _setting(
        2,
        _whole(1, 3600),
        "processor seconds",
        "the most processor time for decoding and preparing the images of one request",
    )
    max_decode_mib: int = _setting(
        300,
        _whole(64, 16_384),
        "MiB",
        "the most memory for decoding one image, in a process beside each worker; 300 MiB are "
        "enough for 19 million pixels of WebP, 28 of AVIF or 26 of HEIC, and 900 MiB for 50",
    )
    keys: Path | None = _setting(
        None,
        Path,
        "file",
        "the keys that callers need, made by `python -m app.new_key`; read with every request",
        shown="none: no key is needed",
    )
    rate_limit: str = _setting(
        "",
        _matching(_RATES, "a rate such as 100/minute, or several joined by ;"),
        "requests",
        "the most requests of one key or one address, such as `100/minute;2000/day`",
        shown="none",
    )
    redis: str = _setting(
        "",
        _matching(r"(rediss?|redis\+unix)://\S+", "redis://host:6379/0"),
        "URL",
        "the Redis that counts requests for the rate limit, if several machines share it",
        shown="none: counted in memory",
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        _origins,
        "origins",
        "the sites whose pages may call the service, such as `https://example.org`, joined by "
        "commas; `*` for all",
        shown="none",
    )
    proxies: int = _setting(
        0, _whole(0, 9), "proxies", "the number of trusted proxies, which set `X-Forwarded-*`"
    )
    direct: bool = _setting(
        True,
        _switch,
        "on or off",
        "whether the worker answers classifications directly, without Flask and its parser",
        shown="`on`",
    )
    feedback: str = _setting(
        "",
        _matching(
            r"sqlite:///\S+|postgresql\+psycopg://\S+",
            "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
        ),
        "URL",
        "the store of votes, such as `sqlite:///feedback.db`, or `postgresql+psycopg://...` for "
        "several machines; it turns on `prediction_id` and POST /api/feedback (docs/feedback.md)",
        shown="none: no votes",
    )
    feedback_wait: int = _setting(
        3600,
        _whole(1, 30 * 86400),
        "seconds",
        "the time in which a vote may come; a prediction without one is then deleted",
    )
    canary: float = _setting(
        0.0,
        _share,
        "share",
        "of the pictures on which champion and challenger disagree, the share that the challenger "
        "answers, from 0 to 1; above 0, both networks see every picture",
        shown="`0`",
    )
    log_level: str = _setting(
        "info", _choice("debug", "info", "warning", "error"), "level", "the lowest level logged"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Return the settings in the variables of `environment`. Empty variables count as absent.

        PORT, which cloud platforms set, is used if METAPLASTIC_PORT is absent. Such a platform
        sends requests from outside, so 0.0.0.0 is then the default of METAPLASTIC_HOST.

        Raises SettingsError with a line for each variable that cannot be used, and for each unknown
        variable with the prefix METAPLASTIC_.
        """
        given = {name: text.strip() for name, text in environment.items() if text.strip()}
        values, problems = {}, _unknown(given)
        for entry in fields(cls):
            name = PREFIX + entry.name.upper()
            # PORT never overrides METAPLASTIC_PORT.
            if entry.name == "port" and name not in given:
                name = CLOUD_PORT
            if name not in given:
                continue
            try:
                values[entry.name] = entry.metadata["parse"](given[name])
            except ValueError as error:
                found = _PASSWORD.sub("//***@", given[name])
                problems.append(f"{name}: expected {error}, found {found!r}")
        if values.get("canary") and "feedback" not in values:
            problems.append(
                "METAPLASTIC_CANARY: it needs votes, which METAPLASTIC_FEEDBACK turns on"
            )
        if problems:
            raise SettingsError("\n".join(problems))
        if takes_cloud_port(given):
            values.setdefault("host", EVERYWHERE)
        return cls(**values)

    @property
    def runs_int8(self) -> bool:
        """Whether models that have 8-bit files are run by them here, on the processor."""
        return self.int8 == "auto" and self.providers[0] == CPU and multiplies_int8()

    @property
    def max_request_bytes(self) -> int:
        return self.max_request_mib * MEBIBYTE

    @property
    def max_pixels(self) -> int:
        """Return the most pixels of one image."""
        return self.max_megapixels * MEGAPIXEL

    @property
    def max_seconds(self) -> float:
        """Return the most seconds on the clock for the images of one request.

        The other half of the timeout is for reading and answering.
        """
        return self.timeout / 2


@dataclass(frozen=True)
class Variable:
    """One row of the table of settings."""

    name: str
    default: str
    unit: str
    meaning: str


VARIABLES = tuple(
    Variable(
        PREFIX + entry.name.upper(),
        entry.metadata["shown"] or f"`{entry.default}`",
        entry.metadata["unit"],
        entry.metadata["meaning"],
    )
    for entry in fields(Settings)
)


def takes_cloud_port(environment: Mapping[str, str]) -> bool:
    """Return whether PORT gives the port: it is set, and METAPLASTIC_PORT is not."""
    given = (environment.get(name, "").strip() for name in (CLOUD_PORT, f"{PREFIX}PORT"))
    return [bool(text) for text in given] == [True, False]


def _unknown(names: Iterable[str]) -> list[str]:
    """Return a message for each of `names` that has the prefix and is not a setting."""
    known = {variable.name for variable in VARIABLES}
    unknown = sorted(
        name
        for name in names
        if name.upper().startswith(PREFIX) and name not in known | _OTHER_VARIABLES
    )
    # Kubernetes sets these by itself, so their message says how to stop that.
    links = [name for name in unknown if _SERVICE_LINK.fullmatch(name)]
    problems = [
        f"{name}: there is no such setting; the nearest is {_nearest(name, known)}"
        for name in unknown
        if name not in links
    ]
    if links:
        problems.append(
            f"{', '.join(links)}: Kubernetes sets these for a Service whose name begins with "
            "metaplastic. Set `enableServiceLinks: false` in the pod's spec."
        )
    return problems


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return the name in `known` that is most like `name`, the common prefix left out."""
    rests = [other.removeprefix(PREFIX) for other in known]
    (nearest,) = difflib.get_close_matches(name[len(PREFIX) :].upper(), rests, n=1, cutoff=0)
    return PREFIX + nearest


def markdown_table() -> str:
    """Return the table of settings in Markdown."""
    rows = [f"| `{v.name}` | {v.default} | {v.unit} | {v.meaning} |" for v in VARIABLES]
    return "\n".join(
        ["| variable | default | unit | meaning |", "| --- | --- | --- | --- |", *rows]
    )
