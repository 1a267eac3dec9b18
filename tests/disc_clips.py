"""Clips with a red disc for a face, and the detector that finds it."""

from fractions import Fraction

import numpy as np
import pytest

from facegan.face.landmarks import MEAN_SHAPE, Face, box_from_landmarks
from facegan.video.writer import VideoWriter

HEIGHT, WIDTH = 96, 128


def draw_frame(centre_xy, radius=24.0, sharp=True, seed=0):
    """A noisy grey frame with a red disc; none when ``centre_xy`` is None."""
    rng = np.random.default_rng(seed)
    image = np.repeat(rng.integers(90, 110, (HEIGHT, WIDTH, 1)), 3, axis=2)
    if centre_xy is not None:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        disc = (x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 <= radius**2
        image[disc] = (230, 20, 20)
        if sharp:
            dots = disc & (x % 4 < 2) & (y % 4 < 2)
            image[dots] = (160, 0, 0)
    return image.astype(np.uint8)


class DiscDetector:
    """Finds the red disc. ``calls`` counts what was asked of it."""

    def __init__(self):
        self.calls = 0

    def detect(self, image):
        self.calls += 1
        red = (image[..., 0].astype(int) - image[..., 1]) > 80
        if red.sum() < 50:
            return []
        y, x = np.nonzero(red)
        side = 2 * np.sqrt(red.sum() / np.pi)
        centre = np.array([x.mean(), y.mean()])
        shape = MEAN_SHAPE - MEAN_SHAPE.mean(axis=0)
        landmarks = (centre + shape * side).astype(np.float32)
        return [Face(landmarks, box_from_landmarks(landmarks), 1.0)]

    def refine(self, image, box_xyxy_px):
        faces = self.detect(image)
        return faces[0] if faces else None


@pytest.fixture
def write_disc_clip(tmp_path):
    """Writes a clip from frames; returns its path."""

    def write(frames, name="clip.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(
            path, width=WIDTH, height=HEIGHT, frame_rate=25, time_base=Fraction(1, 25)
        ) as writer:
            for number, image in enumerate(frames):
                writer.write(image, number)
        return path

    return write


@pytest.fixture
def moving_frames():
    """Thirty frames whose disc goes from left to right."""
    return [draw_frame((50 + number, 48), seed=number) for number in range(30)]


@pytest.fixture
def disc_detector():
    return DiscDetector()


@pytest.fixture
def frame_maker():
    return draw_frame
