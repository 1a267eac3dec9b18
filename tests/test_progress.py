"""Progress: plain lines, bar, rate and time left."""

import io
import re
import time

import pytest

from facegan.progress import Progress, format_duration, no_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_tell_count_rate_and_time_left():
    log = io.StringIO()
    with Progress("Render", stream=log, line_every_s=0.0) as progress:
        progress(0, 100, "frame")
        time.sleep(0.05)
        progress(50, 100, "frame")
    last = log.getvalue().splitlines()[-1]
    assert re.fullmatch(r"Render: 50/100 frame, [\d.]+ frame/s, 0:00 left", last)


def test_plain_lines_are_rare_but_the_end_is_told():
    log = io.StringIO()
    with Progress("Render", stream=log, line_every_s=3600.0) as progress:
        for done in range(1, 201):
            progress(done, 200, "frame")
    lines = log.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Render: 200/200 frame")


def test_rate_counts_only_what_this_run_did():
    progress = Progress("Render", style="none")
    progress(1000, 1100, "frame")
    assert progress.rate() is None
    time.sleep(0.1)
    progress(1010, 1100, "frame")
    assert 10 < progress.rate() < 101


def test_bar_is_drawn_on_a_terminal_only():
    screen, log = Terminal(), io.StringIO()
    for stream in (screen, log):
        with Progress("Train", total=10, unit="step", stream=stream) as progress:
            progress.advance(4)
            progress.advance(6)
    assert "\r" in screen.getvalue()
    assert "100%" in screen.getvalue()
    assert "10/10" in screen.getvalue()
    assert "\r" not in log.getvalue()


def test_resumed_bar_starts_at_what_was_done():
    screen = Terminal()
    with Progress("Render", stream=screen) as progress:
        progress(70, 100, "frame")
    assert "70/100" in screen.getvalue()


def test_advance_counts_from_zero():
    progress = Progress("Train", total=10, style="none")
    progress.advance(3)
    assert progress.done == 3


def test_closed_and_silent_progress_write_nothing():
    log = io.StringIO()
    progress = Progress("Render", stream=log, line_every_s=0.0, style="none")
    progress(1, 2, "frame")
    progress.close()
    progress(2, 2, "frame")
    assert log.getvalue() == ""
    with no_progress("Render") as callback:
        assert callback(1, 2, "frame") is None


def test_a_closed_stream_counts_as_no_terminal():
    stream = io.StringIO()
    stream.close()
    assert Progress("Render", stream=stream).rate() is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05")]
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text
