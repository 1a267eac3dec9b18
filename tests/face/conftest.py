"""Faces for tests: an embedded portrait, decoded clips, and a detector that knows the scene."""

import av
import cv2
import numpy as np
import pytest
import skimage.data

from facegan.face.landmarks import MEAN_SHAPE, DlibDetector, Face, box_from_landmarks


@pytest.fixture(scope="session")
def portrait():
    """Eileen Collins, [512, 512, 3] uint8."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def dlib_detector():
    """One detector for all tests: its model takes half a second to read."""
    return DlibDetector()


@pytest.fixture(scope="session")
def portrait_face(dlib_detector, portrait):
    """The one face of the portrait."""
    (face,) = dlib_detector.detect(portrait)
    return face


@pytest.fixture
def read_clip(media_dir):
    """Decodes frames of a real clip: (name, count, every) -> list of [H, W, 3] uint8."""

    def read(name, count, every=1):
        images = []
        with av.open(str(media_dir / "clips" / f"{name}.mp4")) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % every == 0:
                    images.append(frame.to_ndarray(format="rgb24"))
                if len(images) == count:
                    break
        return images

    return read


class Scene:
    """A scripted scene, and the detector that sees it.

    Args:
        people: One function per person: frame number -> (x, y, side) of the box, or None.
        size: Height and width.
    """

    def __init__(self, people, size=320):
        self.people, self.size = people, size
        self.searches = []
        self.blind = set()

    def image(self, number):
        """A frame whose first pixels carry its number; brightness 100, 200 after a cut."""
        image = np.full((self.size, self.size, 3), 100, np.uint8)
        image[0, 0] = (number % 256, number // 256, 0)
        return image

    def truth(self, number):
        """The faces of a frame, in the people's order."""
        faces = []
        for person in self.people:
            place = person(number)
            if place is not None:
                x, y, side = place
                landmarks = (MEAN_SHAPE * side + (x, y)).astype(np.float32)
                faces.append(Face(landmarks, box_from_landmarks(landmarks), 1.0))
        return faces

    def _number(self, image):
        return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])

    def detect(self, image):
        number = self._number(image)
        self.searches.append(number)
        found = [] if number in self.blind else self.truth(number)
        return sorted(found, key=lambda f: float(f.box_xyxy_px[0] - f.box_xyxy_px[2]))

    def refine(self, image, box_xyxy_px):
        """The nearest true face if it is near; else a face-like shape at the box, as dlib gives."""
        middle = (box_xyxy_px[:2] + box_xyxy_px[2:]) / 2
        side = float(box_xyxy_px[2] - box_xyxy_px[0])
        for face in self.truth(self._number(image)):
            centre = (face.box_xyxy_px[:2] + face.box_xyxy_px[2:]) / 2
            if np.linalg.norm(centre - middle) < 0.3 * side:
                return face
        landmarks = (MEAN_SHAPE * side + box_xyxy_px[:2]).astype(np.float32)
        return Face(landmarks, box_from_landmarks(landmarks), 0.0)


@pytest.fixture
def make_scene():
    """Builds a scripted scene."""
    return Scene


@pytest.fixture(scope="session")
def shifted():
    """Moves an image by whole pixels, repeating its border."""

    def shift(image, x, y):
        matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
        size = (image.shape[1], image.shape[0])
        return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)

    return shift
