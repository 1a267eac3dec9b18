"""Frames carry exact times."""

from fractions import Fraction

import numpy as np

from facegan.video.frames import Frame


def test_time_of_an_ntsc_frame_is_exact_to_a_float():
    frame = Frame(np.zeros((2, 2, 3), np.uint8), index=3, pts=3003, time_base=Fraction(1, 30000))
    assert frame.time_s == 3003 / 30000


def test_frames_cannot_be_changed():
    frame = Frame(np.zeros((2, 2, 3), np.uint8), index=0, pts=0, time_base=Fraction(1, 25))
    try:
        frame.pts = 1
    except AttributeError:
        return
    raise AssertionError("a frame's stamp was changed")
