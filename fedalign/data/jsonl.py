"""Lines of JSON: read one by one, refused or counted with line and reason where they are damaged."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fedalign.core.errors import DataError

Row = TypeVar("Row")


class Malformed(ValueError):
    """Why a line cannot be used; a sentence's end, such as "it has no field 'chosen'"."""


class Skip(ValueError):
    """A line that is sound but of no use, such as a tie; always counted, never an error."""


def read(
    path: Path, parse: Callable[[Mapping[str, Any]], Iterable[Row]], strict: bool, skipped: Counter
) -> Iterator[Row]:
    """What `parse` makes of every line of a .jsonl or .jsonl.gz file.

    strict: a damaged line is a DataError that names file, line and reason; else it is counted in
    `skipped` by its reason. A file cut off in the middle is told the same way.
    """
    for number, line, broken in _lines(path):
        try:
            if broken is not None:
                raise Malformed(f"the file ends too early ({broken})")
            yield from parse(_row(line))
        except Skip as why:
            skipped[str(why)] += 1
        except Malformed as why:
            if strict:
                raise DataError(
                    f"{path}, line {number}: {why}. Correct the line, or count and leave out such "
                    "lines with data.strict=false."
                ) from why
            skipped[str(why)] += 1


def field(row: Mapping[str, Any], name: str, kind: type | tuple[type, ...] = str) -> Any:
    """row[name] of the right kind and, if text, not blank; Malformed else."""
    if name not in row:
        raise Malformed(
            f"it has no field '{name}', but {', '.join(sorted(map(str, row))) or 'none'}"
        )
    value = row[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(f"field '{name}' holds a {type(value).__name__}")
    if isinstance(value, str) and not value.strip():
        raise Malformed(f"field '{name}' is empty")
    return value


def _lines(path: Path) -> Iterator[tuple[int, str, Exception | None]]:
    """Line number, text, and what broke where the file cannot be read on."""
    number, opener = 0, gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line, None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        yield number + 1, "", error


def _row(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise Malformed(f"it is no JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(found, dict):
        raise Malformed(f"it holds a {type(found).__name__}, expected an object")
    return found
