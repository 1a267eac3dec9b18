"""Makes the fixtures for clips with a red disc known here."""

from tests.disc_clips import (  # noqa: F401
    disc_detector,
    frame_maker,
    moving_frames,
    write_disc_clip,
)
