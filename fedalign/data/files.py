"""Finding a data file below `data.root`, and a sentence where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

from fedalign.core.errors import DataError

GROUPS = ("", "vision", "tabular", "text", "preference")


@overload
def find(root: str | None, name: str, files: Sequence[str]) -> Path: ...
@overload
def find(
    root: str | None, name: str, files: Sequence[str], required: Literal[False]
) -> Path | None: ...
def find(root: str | None, name: str, files: Sequence[str], required: bool = True) -> Path | None:
    """The first of `files` (also with .gz) in root, root/name or root/<group>/name."""
    if root is None:
        raise DataError(
            f"data={name} reads files: say where with data.root=FOLDER, a folder that holds "
            f"{files[0]} or {name}/{files[0]} (.gz is fine). Nothing is ever downloaded; "
            f"data=digits needs no file."
        )
    base = Path(root).expanduser()
    folders = [base, *(base / group / name for group in GROUPS), *(base / g for g in GROUPS[1:])]
    for folder in folders:
        for file in files:
            for path in (folder / file, folder / f"{file}.gz"):
                if path.is_file():
                    return path.resolve()
    if not required:
        return None
    raise DataError(
        f"data={name}: none of {', '.join(files)} (or with .gz) lies in {base}, {base / name} or "
        f"{base}/<group>/{name}. Put the file there or correct data.root."
    )
