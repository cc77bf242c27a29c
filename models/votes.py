"""The store of votes: what people said about answers, and the pictures that the answers are about.

The service writes it and the learner reads it. It is a SQLite file or a PostgreSQL database. Only
this module imports SQLAlchemy.

A prediction is kept with its prepared picture (uint8 pixels) until its vote may no longer come, and
is then deleted unless there was one. Times are seconds since 1970, UTC.
"""

import contextlib
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from models.errors import MetaplasticError

SCHEMA = 1  # the version of the tables
KINDS = ("sqlite", "postgresql+psycopg")
_BUSY = 5.0  # seconds that SQLite waits for another writer
_SHORT = 100  # milliseconds that it waits for readers, so that its log file can be emptied
_CONNECT, _STATEMENT = 3, 5  # seconds that PostgreSQL has for a connection, and for a statement
_LOCK = 0x6D657461  # PostgreSQL's advisory lock while the tables are made
_SECRET_BYTES = 32

Store = sql.Engine
_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

_tables = sql.MetaData()
_about = sql.Table(
    "about",
    _tables,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)
_predictions = sql.Table(
    "predictions",
    _tables,
    sql.Column("id", sql.Text, primary_key=True),
    sql.Column("dataset", sql.Text, nullable=False),
    sql.Column("architecture", sql.Text, nullable=False),
    sql.Column("rule", sql.Text, nullable=False),
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("answer", sql.Integer, nullable=False),
    sql.Column("asker", sql.Text, nullable=False),
    sql.Column("made", sql.Double, nullable=False),
    sql.Column("expires", sql.Double, nullable=False),
    sql.Column("height", sql.Integer, nullable=False),
    sql.Column("width", sql.Integer, nullable=False),
    sql.Column("channels", sql.Integer, nullable=False),
    sql.Column("pixels", sql.LargeBinary, nullable=False),
    sql.Column("champion", sql.Integer),
    sql.Column("champion_answer", sql.Integer),
    sql.Column("challenger", sql.Integer),
    sql.Column("challenger_answer", sql.Integer),
    sql.Column("canary", sql.Boolean, nullable=False),
    sql.Column("voted", sql.Double),
    sql.Column("day", sql.Text),
    sql.Column("reward", sql.Integer),
    sql.Column("label", sql.Integer),
    sql.Column("voter", sql.Text),
    sql.Column("by_admin", sql.Boolean),
)
_unvoted = _predictions.c.voted.is_(None)
sql.Index(
    "waiting_predictions",
    _predictions.c.expires,
    sqlite_where=_unvoted,
    postgresql_where=_unvoted,
)
_voted = _predictions.c.voted.is_not(None)
sql.Index(
    "votes_of_model",
    *(_predictions.c.dataset, _predictions.c.architecture, _predictions.c.voted),
    sqlite_where=_voted,
    postgresql_where=_voted,
)
# All that is counted for people, so that counting reads no pictures.
sql.Index(
    "counted_votes",
    *(_predictions.c[name] for name in ("dataset", "architecture", "day", "answer")),
    *(_predictions.c[name] for name in ("rule", "version", "label", "reward")),
    sqlite_where=_voted,
    postgresql_where=_voted,
)
_events = sql.Table(
    "events",
    _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("dataset", sql.Text, nullable=False),
    sql.Column("architecture", sql.Text, nullable=False),
    sql.Column("rule", sql.Text, nullable=False),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("at", sql.Double, nullable=False),
    sql.Column("content", sql.Text, nullable=False),
)

# Kinds of events. The learner writes CHALLENGER, the others come from learner or service.
CHALLENGER = "challenger"  # a challenger was made; its content has the verdicts of the gates
PROMOTED = "promoted"
ROLLED_BACK = "rolled back"
REQUESTED = "requested"  # an admin wants a challenger now
TAKEN = "taken"  # such a wish, after the learner has begun


class VotesError(MetaplasticError):
    """A store of votes that cannot be used. The message names the store and the problem."""


class UnknownPredictionError(MetaplasticError):
    """A vote about a prediction that is not in the store."""


@dataclass(frozen=True)
class Both:
    """What champion and challenger answered about one picture: versions and label indices."""

    champion: int
    champion_answer: int
    challenger: int
    challenger_answer: int


@dataclass(frozen=True)
class Prediction:
    """One answer that may get a vote."""

    id: str  # the request's number and the index of the picture, at most 64 characters
    dataset: str
    architecture: str
    rule: str
    version: int  # that answered
    answer: int  # index of the label
    asker: str  # `key:NAME`, or a hash of the address
    made: float
    expires: float  # until when a vote may come
    pixels: NDArray[np.uint8]  # (height, width, channels), as the network received it
    both: Both | None = None  # if there was a challenger
    canary: bool = False  # whether the challenger answered, since the two disagreed


@dataclass(frozen=True)
class Vote:
    """A prediction that got a vote: a reward or a label, the other one is None."""

    prediction: Prediction
    voted: float  # when
    reward: int | None  # 1: right, 0: wrong
    label: int | None  # index of the label that is right
    voter: str  # `key:NAME`, or a hash of the address
    by_admin: bool

    @property
    def right(self) -> bool:
        """Return whether the answer was right, as the voter says."""
        return bool(self.reward) if self.label is None else self.label == self.prediction.answer


@dataclass(frozen=True)
class Event:
    """Something that happened to a model: see the kinds above."""

    dataset: str
    architecture: str
    rule: str
    kind: str
    at: float
    content: Mapping[str, Any]  # JSON


def open_store(url: str) -> Store:
    """Return the store at `url`; its tables are made if they do not exist.

    `url` is `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`. Do not use a
    store in another process than the one that opened it. Raises VotesError if it cannot be opened,
    or has tables of another version; then it has not changed.
    """
    store = _engine(url)
    try:
        with writing(store) as connection:
            _make_tables(store, connection)
    except VotesError:
        store.dispose()
        raise
    return store.execution_options(file=_file_of(store))


def _make_tables(store: Store, connection: sql.Connection) -> None:
    """Make the tables that are missing. Raises VotesError if they have another version."""
    if store.dialect.name == "postgresql":
        # Several machines may start at once.
        connection.execute(sql.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    _about.create(connection, checkfirst=True)
    rows = connection.execute(sql.select(_about.c.name, _about.c.value)).all()
    known = {str(row.name): str(row.value) for row in rows}
    if (found := known.get("schema", str(SCHEMA))) != str(SCHEMA):
        raise VotesError(
            f"{name_of(store)}: its tables have version {found}, and this program needs version "
            f"{SCHEMA}. Use another store, or the program that made it."
        )
    _tables.create_all(connection)
    for index in _predictions.indexes:  # those that an earlier program has not made
        index.create(connection, checkfirst=True)
    for name, value in (
        ("schema", str(SCHEMA)),
        ("secret", secrets.token_hex(_SECRET_BYTES)),
    ):
        if name not in known:
            connection.execute(_about.insert().values(name=name, value=value))


def reopened(store: Store) -> Store:
    """Return `store`, or another one if its SQLite file has been removed or replaced.

    What is written to a removed file is lost. Raises VotesError as `open_store` does.
    """
    if _file_of(store) == store.get_execution_options()["file"]:
        return store
    store.dispose()
    return open_store(store.url.render_as_string(hide_password=False))


def _file_of(store: Store) -> tuple[int, int] | None:
    """Return device and inode of SQLite's file, or None without one."""
    if store.dialect.name != "sqlite":
        return None
    try:
        found = Path(str(store.url.database)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def close_store(store: Store) -> None:
    """Close the connections of `store`."""
    store.dispose()


def name_of(store: Store) -> str:
    """Return the URL of `store` without its password."""
    return store.url.render_as_string(hide_password=True)


def secret_of(store: Store) -> bytes:
    """Return the secret that signs the ids of predictions. It never changes. Raises VotesError."""
    with reading(store) as connection:
        found = connection.execute(sql.select(_about.c.value).where(_about.c.name == "secret"))
        text = str(found.scalar_one())
    if not re.fullmatch(f"[0-9a-f]{{{2 * _SECRET_BYTES}}}", text):
        raise VotesError(
            f"{name_of(store)}: its secret is not {2 * _SECRET_BYTES} hexadecimal digits. Use "
            "another store, or a backup of this one."
        )
    return bytes.fromhex(text)


def keep_predictions(store: Store, predictions: Iterable[Prediction]) -> None:
    """Store answers that may get a vote, with their pictures. Raises VotesError: none is stored.

    They are on the disk when a vote about one of them is, and may be lost before if the power
    fails. One that is stored already stays as it is: after a connection was lost in a commit, the
    same ones come again.
    """
    rows = [_row(one) for one in predictions]
    if rows:
        insert = _INSERTS[store.dialect.name](_predictions).on_conflict_do_nothing()
        with writing(store, durable=False) as connection:
            connection.execute(insert, rows)


def record_vote(
    store: Store,
    prediction_id: str,
    *,
    voter: str,
    reward: int | None = None,
    label: int | None = None,
    by_admin: bool = False,
) -> None:
    """Store one vote, as `record_votes` does."""
    record_votes(store, [NewVote(prediction_id, voter, reward, label, by_admin)])


@dataclass(frozen=True)
class NewVote:
    """A vote that is to be stored: `reward` (0 or 1) or `label` (an index)."""

    prediction_id: str
    voter: str
    reward: int | None = None
    label: int | None = None
    by_admin: bool = False


@dataclass(frozen=True)
class Recorded:
    """What became of a new vote."""

    changed: bool  # False if the same vote was there already
    answer: int  # index of the label that the vote is about


def record_votes(store: Store, votes: Sequence[NewVote]) -> list[Recorded]:
    """Store all `votes` in one step; each replaces an earlier vote about the same prediction.

    They are on the disk when this returns. An equal vote changes nothing. Raises
    UnknownPredictionError, with the first id that is not in the store, and VotesError; then no vote
    is stored.
    """
    now, table = time.time(), _predictions.c
    ids = sorted({vote.prediction_id for vote in votes})
    # PostgreSQL locks the rows: nothing deletes them before the commit. In this order, two requests
    # do not wait for each other for ever.
    wanted = (
        sql.select(
            *(table.id, table.answer, table.voted),
            *(table.reward, table.label, table.voter, table.by_admin),
        )
        .where(table.id.in_(ids))
        .order_by(table.id)
        .with_for_update()
    )
    recorded = []
    with writing(store) as connection:
        answers, before = {}, {}
        for id_, answer, voted, *vote_before in connection.execute(wanted):
            answers[id_] = answer
            before[id_] = None if voted is None else tuple(vote_before)
        after = dict(before)
        for vote in votes:
            if vote.prediction_id not in answers:
                raise UnknownPredictionError(vote.prediction_id)
            given = vote.reward, vote.label, vote.voter, vote.by_admin
            changed = after[vote.prediction_id] != given
            recorded.append(Recorded(changed, answers[vote.prediction_id]))
            after[vote.prediction_id] = given
        names = "reward", "label", "voter", "by_admin"
        rows = [
            {"id_": id_, "voted": now, "day": _day(now), **dict(zip(names, given, strict=True))}
            for id_, given in after.items()
            if given is not None and given != before[id_]
        ]
        if rows:
            update = _predictions.update().where(table.id == sql.bindparam("id_"))
            connection.execute(update, rows)
    return recorded


def votes(
    store: Store,
    dataset: str,
    architecture: str,
    *,
    rule: str | None = None,
    since: float = 0.0,
    until: float | None = None,
    most: int | None = None,
) -> list[Vote]:
    """Return the votes about a model, the oldest first, with their pictures.

    They were cast from `since` on, and before `until`. With `most`, only the last ones. Raises
    VotesError.
    """
    table = _predictions.c
    wanted = sql.select(_predictions).where(
        *(table.dataset == dataset, table.architecture == architecture),
        *(_voted, table.voted >= since),
    )
    if rule is not None:
        wanted = wanted.where(table.rule == rule)
    if until is not None:
        wanted = wanted.where(table.voted < until)
    wanted = wanted.order_by(table.voted.desc(), table.id.desc()).limit(most)
    with reading(store) as connection:
        rows = connection.execute(wanted).mappings().all()
    return [_vote(row) for row in reversed(rows)]


def count_votes(store: Store, dataset: str, architecture: str, *, since: float = 0.0) -> int:
    """Return the number of votes about all rules and versions of a model, cast from `since` on.

    Raises VotesError.
    """
    late = _predictions.c.voted >= since
    wanted = sql.select(sql.func.count()).where(*_about_model(dataset, architecture), late)
    with reading(store) as connection:
        return int(connection.execute(wanted).scalar_one())


@dataclass(frozen=True)
class DayOfVotes:
    """The votes of one day (UTC) about answers of one label."""

    day: str  # 2026-11-28
    label: int  # index of the label that was answered
    up: int  # votes that say the answer was right
    down: int
    labelled: int  # those of both that name the right label


@dataclass(frozen=True)
class VersionVotes:
    """The votes about the answers of one version."""

    rule: str
    version: int
    up: int
    down: int
    labelled: int

    @property
    def share_up(self) -> float:
        """Return the share of answers that were right, as the voters say, in 0..1."""
        return self.up / (self.up + self.down)


def votes_by_day(
    store: Store, dataset: str, architecture: str, *, days: int = 30
) -> list[DayOfVotes]:
    """Return the votes of the last `days` days by day and label. Raises VotesError."""
    first = _day(time.time() - (days - 1) * 86400)
    table = _predictions.c
    wanted = _counts([table.day, table.answer], dataset, architecture, first)
    with reading(store) as connection:
        rows = connection.execute(wanted).all()
    return [
        DayOfVotes(day, label, int(up), int(all_) - int(up), int(labelled))
        for day, label, all_, up, labelled in rows
    ]


def votes_by_version(store: Store, dataset: str, architecture: str) -> list[VersionVotes]:
    """Return the votes about each rule and version of a model. Raises VotesError."""
    table = _predictions.c
    wanted = _counts([table.rule, table.version], dataset, architecture, "")
    with reading(store) as connection:
        rows = connection.execute(wanted).all()
    return [
        VersionVotes(rule, version, int(up), int(all_) - int(up), int(labelled))
        for rule, version, all_, up, labelled in rows
    ]


def _counts(by: Sequence[Any], dataset: str, architecture: str, first: str) -> sql.Select[Any]:
    """Return the counts of votes since the day `first`, which is always given.

    With it, SQLite takes the index that has all columns.
    """
    table = _predictions.c
    right = sql.case(
        (table.label.is_not(None), sql.case((table.label == table.answer, 1), else_=0)),
        else_=table.reward,
    )
    labelled = sql.case((table.label.is_not(None), 1), else_=0)
    return (
        sql.select(*by, sql.func.count(), sql.func.sum(right), sql.func.sum(labelled))
        .where(*_about_model(dataset, architecture), table.day >= first)
        .group_by(*by)
        .order_by(*by)
    )


def _about_model(dataset: str, architecture: str) -> tuple[sql.ColumnElement[bool], ...]:
    table = _predictions.c
    return table.dataset == dataset, table.architecture == architecture, _voted


def delete_key(store: Store, name: str) -> int:
    """Delete all that the asker or voter `name` left, and return how many predictions that were.

    `name` is as in Prediction.asker. Raises VotesError.
    """
    table = _predictions.c
    return _delete(store, sql.or_(table.asker == name, table.voter == name))


def delete_before(store: Store, moment: float) -> int:
    """Delete all predictions before `moment` with their votes, and return their number.

    Raises VotesError.
    """
    return _delete(store, _predictions.c.made < moment)


def delete_prediction(store: Store, prediction_id: str) -> int:
    """Delete one prediction with its vote. Return 1, or 0 if there is none. Raises VotesError."""
    return _delete(store, _predictions.c.id == prediction_id)


def delete_expired(store: Store, now: float | None = None) -> int:
    """Delete the predictions without a vote whose time is over, and return their number.

    Raises VotesError.
    """
    moment = time.time() if now is None else now
    return _delete(store, _unvoted, _predictions.c.expires < moment)


def delete_oldest_waiting(store: Store, most: int) -> int:
    """Delete the oldest predictions without a vote, so that `most` stay. Return their number.

    Raises VotesError.
    """
    table = _predictions.c
    kept = sql.select(table.expires).where(_unvoted).order_by(table.expires.desc())
    first = kept.offset(most).limit(1).scalar_subquery()
    return _delete(store, _unvoted, table.expires <= first)


def _delete(store: Store, *where: sql.ColumnElement[bool]) -> int:
    with writing(store) as connection:
        return int(connection.execute(_predictions.delete().where(*where)).rowcount)


def forget_deleted(store: Store) -> bool:
    """Remove what was deleted from SQLite's log file too. Return False if a reader is in the way.

    PostgreSQL's autovacuum does this by itself. Raises VotesError.
    """
    if store.dialect.name != "sqlite":
        return True
    with _failing(store), store.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        try:
            # Others cannot write while this waits for readers.
            raw.execute(f"PRAGMA busy_timeout={_SHORT}")
            ((busy, _, _),) = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            raw.execute(f"PRAGMA busy_timeout={round(1000 * _BUSY)}")
    return not busy


def note_event(
    store: Store,
    kind: str,
    dataset: str,
    architecture: str,
    rule: str,
    content: Mapping[str, Any] | None = None,
) -> None:
    """Record what happened to a model. `content` is JSON. Raises VotesError."""
    row = {
        "dataset": dataset,
        "architecture": architecture,
        "rule": rule,
        "kind": kind,
        "at": time.time(),
        "content": json.dumps(content or {}, allow_nan=False),
    }
    with writing(store) as connection:
        connection.execute(_events.insert().values(row))


def events(
    store: Store, dataset: str, architecture: str, *, kind: str | None = None, most: int = 100
) -> list[Event]:
    """Return the last events of a model, the newest first. Raises VotesError."""
    table = _events.c
    wanted = sql.select(_events).where(table.dataset == dataset, table.architecture == architecture)
    if kind is not None:
        wanted = wanted.where(table.kind == kind)
    wanted = wanted.order_by(table.number.desc()).limit(most)
    with reading(store) as connection:
        rows = connection.execute(wanted).all()
    return [_event(row) for row in rows]


def last_challengers(store: Store) -> list[Event]:
    """Return the last challenger of every model that has had one. Raises VotesError."""
    table = _events.c
    by = table.dataset, table.architecture, table.rule
    last = sql.select(sql.func.max(table.number)).where(table.kind == CHALLENGER).group_by(*by)
    wanted = sql.select(_events).where(table.number.in_(last)).order_by(*by)
    with reading(store) as connection:
        rows = connection.execute(wanted).all()
    return [_event(row) for row in rows]


def take_requests(store: Store, dataset: str, architecture: str) -> int:
    """Return how often an admin has asked for a challenger since the last call. Raises VotesError.

    Call it before learning, so that a wish that comes meanwhile is kept for the next time.
    """
    table = _events.c
    with writing(store) as connection:
        taken = connection.execute(
            _events.update()
            .where(
                *(table.dataset == dataset, table.architecture == architecture),
                table.kind == REQUESTED,
            )
            .values(kind=TAKEN)
        )
        return int(taken.rowcount)


@contextlib.contextmanager
def reading(store: Store) -> Iterator[sql.Connection]:
    """Open a connection for reading. Raises VotesError for all that goes wrong inside."""
    with _failing(store), store.connect() as connection:
        yield connection


@contextlib.contextmanager
def writing(store: Store, *, durable: bool = True) -> Iterator[sql.Connection]:
    """Open a transaction, which is on the disk after the block if `durable`. Raises VotesError.

    The execution option `before_commit` of the store is a function that is called before each
    commit, and may raise VotesError to prevent it.
    """
    with (
        _failing(store),
        store.connect().execution_options(writes=True, durable=durable) as connection,
        connection.begin(),
    ):
        if store.dialect.name == "postgresql" and not durable:
            connection.execute(sql.text("SET LOCAL synchronous_commit TO OFF"))
        yield connection
        if before_commit := connection.get_execution_options().get("before_commit"):
            before_commit()


@contextlib.contextmanager
def _failing(store: Store) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        # The text of SQLAlchemy has the statement and its values, which are people's pictures.
        # So has the detail that PostgreSQL adds.
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).partition("\nDETAIL:")[0].split())[:300]
        raise VotesError(f"{name_of(store)}: {text}") from None


def _engine(url: str) -> Store:
    try:
        parsed = sql.make_url(url)
    except (ArgumentError, ValueError):
        raise _bad_url() from None
    # A store in memory would be lost, and each process would have another one.
    no_file = parsed.drivername == "sqlite" and (parsed.database == ":memory:" or parsed.query)
    if parsed.drivername not in KINDS or no_file or not parsed.database:
        raise _bad_url()
    if parsed.drivername == "sqlite":
        store = sql.create_engine(parsed, connect_args={"timeout": _BUSY})
        sql.event.listen(store, "connect", _prepare_sqlite)
        sql.event.listen(store, "begin", _begin_sqlite)
        return store
    limits = f"-c statement_timeout={1000 * _STATEMENT}"
    try:
        return sql.create_engine(
            parsed,
            pool_pre_ping=True,  # a database that was restarted has lost its connections
            connect_args={"connect_timeout": _CONNECT, "options": limits},
        )
    except ModuleNotFoundError as error:
        raise VotesError(
            f"A store of votes in PostgreSQL needs psycopg: pip install 'psycopg[binary]' ({error})"
        ) from None


def _bad_url() -> VotesError:
    return VotesError(
        "A store of votes: expected sqlite:///FILE or "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    )


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Set up a new connection to a SQLite file."""
    connection.isolation_level = None  # `_begin_sqlite` begins transactions
    for pragma in (
        "journal_mode=WAL",  # readers and a writer do not wait for each other
        "secure_delete=ON",  # deleted pictures are overwritten
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    options = connection.get_execution_options()
    # FULL: a commit waits until all that was written so far is on the disk. NORMAL: it does not.
    level = "FULL" if options.get("durable", True) else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    # A transaction that reads first and writes later would fail if another writer comes between.
    writes = options.get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def _row(one: Prediction) -> dict[str, Any]:
    height, width, channels = one.pixels.shape
    both = one.both
    return {
        "id": one.id,
        "dataset": one.dataset,
        "architecture": one.architecture,
        "rule": one.rule,
        "version": one.version,
        "answer": one.answer,
        "asker": one.asker,
        "made": one.made,
        "expires": one.expires,
        "height": height,
        "width": width,
        "channels": channels,
        "pixels": one.pixels.tobytes(),
        "champion": both.champion if both else None,
        "champion_answer": both.champion_answer if both else None,
        "challenger": both.challenger if both else None,
        "challenger_answer": both.challenger_answer if both else None,
        "canary": one.canary,
    }


def _vote(row: Any) -> Vote:
    shape = row["height"], row["width"], row["channels"]
    names = ("champion", "champion_answer", "challenger", "challenger_answer")
    prediction = Prediction(
        id=row["id"],
        dataset=row["dataset"],
        architecture=row["architecture"],
        rule=row["rule"],
        version=row["version"],
        answer=row["answer"],
        asker=row["asker"],
        made=row["made"],
        expires=row["expires"],
        pixels=np.frombuffer(row["pixels"], np.uint8).reshape(shape),
        both=None if row["challenger"] is None else Both(*(row[name] for name in names)),
        canary=row["canary"],
    )
    return Vote(
        prediction, row["voted"], row["reward"], row["label"], row["voter"], row["by_admin"]
    )


def _event(row: Any) -> Event:
    names = row.dataset, row.architecture, row.rule
    return Event(*names, row.kind, row.at, json.loads(row.content))
