"""Frames with a red disc in each half, and the detector that finds both."""

import numpy as np

from tests.disc_clips import DiscDetector, draw_frame


class HalvesDetector(DiscDetector):
    """Finds one disc in each half of the picture."""

    def detect(self, image):
        half = image.shape[1] // 2
        left, right = image.copy(), image.copy()
        left[:, half:] = right[:, :half] = 100
        faces = [
            face for side in (left, right) for face in super(HalvesDetector, self).detect(side)
        ]
        return sorted(faces, key=lambda face: -np.ptp(face.landmarks_xy_px[:, 0]))

    def refine(self, image, box_xyxy_px):
        middle = (box_xyxy_px[0] + box_xyxy_px[2]) / 2
        near = [
            face
            for face in self.detect(image)
            if abs(face.landmarks_xy_px[:, 0].mean() - middle) < 20
        ]
        return near[0] if near else None


def two_discs(left_radius, right_radius, seed=0):
    """A frame with a disc in each half; a radius of 0 leaves one out."""
    left = draw_frame((32, 48) if left_radius else None, radius=left_radius, seed=seed)
    right = draw_frame((96, 48) if right_radius else None, radius=right_radius, seed=seed)
    half = left.shape[1] // 2
    return np.concatenate([left[:, :half], right[:, half:]], axis=1)
