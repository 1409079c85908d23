"""A log nobody can edit quietly."""

import pytest

from fedalign.core.errors import IntegrityError
from fedalign.core.log import Log, read


def _written(path, count=5):
    log = Log(path)
    for number in range(count):
        log.append("round", number=number, value=number / 3)
    log.close()
    return path


def test_what_is_written_is_read_back_in_order(tmp_path):
    events = [body for body, _ in read(_written(tmp_path / "log"))]
    assert [event["number"] for event in events] == [0, 1, 2, 3, 4]
    assert events[1]["value"] == 1 / 3


@pytest.mark.parametrize("line", [0, 2, 4])
def test_an_edited_line_is_named(tmp_path, line):
    path = _written(tmp_path / "log")
    lines = path.read_text().splitlines(keepends=True)
    lines[line] = lines[line].replace(f'"number":{line}', '"number":9')
    path.write_text("".join(lines))
    with pytest.raises(IntegrityError, match=f"log:{line + 1} was altered"):
        list(read(path))


def test_a_removed_or_swapped_line_is_named(tmp_path):
    path = _written(tmp_path / "log")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    with pytest.raises(IntegrityError, match="log:2"):
        list(read(path))
    path.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(IntegrityError, match="log:2"):
        list(read(path))


def test_cut_back_to_a_checkpoint_it_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = _written(tmp_path / "whole").read_text()
    log = Log(tmp_path / "log")
    for number in range(3):
        log.append("round", number=number, value=number / 3)
    length = log.length
    log.append("round", number=77)
    log._file.write('{"hash": "torn')  # killed in the middle of a line
    log.close()
    log = Log(tmp_path / "log", length)
    for number in (3, 4):
        log.append("round", number=number, value=number / 3)
    log.close()
    assert (tmp_path / "log").read_text() == whole


def test_nan_is_written_so_that_any_json_reader_can_follow(tmp_path):
    log = Log(tmp_path / "log")
    log.append("round", loss=float("nan"), more=[float("inf")])
    log.close()
    ((body, _),) = read(tmp_path / "log")
    assert body == {"event": "round", "loss": "nan", "more": ["inf"]}
