from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pool.slurm.telling import LAST_WORDS_S, Teller


def test_what_is_said_is_written_in_order(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    teller = Teller("n1")
    teller.write_to(tmp_path / "log")
    teller.note("for the log")
    teller.say("for all")
    teller.copy("the driver's: \u00fc\n")
    teller.show("the last lines", "a\nb\n")
    teller.close()
    said = capfdbinary.readouterr().out.decode()
    assert said.index("for all") < said.index("the driver's: \u00fc") < said.index("  | a\n  | b")
    assert "for the log" not in said
    log = (tmp_path / "log").read_text()
    assert log.index("for the log") < log.index("for all")


def test_a_file_system_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """A pipe that nobody reads cannot be opened for writing, as a file there could not."""
    os.mkfifo(tmp_path / "log")
    teller = Teller("n1")
    teller.write_to(tmp_path / "log")
    began = time.monotonic()
    for number in range(1000):
        teller.note(str(number))
    assert time.monotonic() - began < LAST_WORDS_S
    teller.close()
    with (tmp_path / "log").open("rb") as reader:
        while not reader.read().endswith(b" 999\n"):
            pass


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    teller = Teller("n1")
    teller.write_to(tmp_path / "none" / "log")
    teller.note("lost")
    teller.write_to(tmp_path / "log")
    teller.note("kept")
    teller.close()
    assert "kept" in (tmp_path / "log").read_text()
