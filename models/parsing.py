"""Convert JSON and TOML values to dataclasses, with errors that name place and cause."""

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class ParseError(ValueError):
    """A value of the wrong type. The message names the place, the expected and the found value."""


def parse(kind: type[T], value: Any, where: str) -> T:
    """Convert `value`, as a JSON or TOML parser returns it, to the dataclass `kind`.

    Fields may be str, int, float, bool, Literal, Mapping, tuples, dataclasses, and each of these
    `| None`. Lists become tuples, and whole numbers become floats, where the field requires it.
    Fields that `kind` does not have are ignored. Raises ParseError, whose message begins with
    `where`.
    """
    parsed: T = _parse(kind, value, f"{where}: ")
    return parsed


def _parse(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _parse_object(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _parse(arguments[0], value, where)
    if origin is Literal:
        if value not in arguments:
            raise ParseError(f"{where}expected one of {', '.join(arguments)}, found {value!r}")
        return value
    if origin is tuple:
        return _parse_list(arguments, value, where)
    wanted: Any = origin or kind
    if wanted is float and type(value) is int:
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ParseError(f"{where}expected {wanted.__name__}, found {value!r}")
    return value


def _parse_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ParseError(f"{where}expected an object, found {value!r}")
    needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise ParseError(f"{where}missing {', '.join(missing)}")
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            name: _parse(hint, value[name], f"{where}{name}: ")
            for name, hint in hints.items()
            if name in value
        }
    )


def _parse_list(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ParseError(f"{where}expected a list, found {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ParseError(f"{where}expected {len(kinds)} entries, found {len(value)}")
    return tuple(
        _parse(kind, entry, f"{where}[{i}] ")
        for i, (kind, entry) in enumerate(zip(kinds, value, strict=True))
    )
