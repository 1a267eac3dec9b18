"""Stand-ins for faces and networks: red squares that count as faces, and an engine that draws.

They take the place of the detector and of the engine, the two seams of rendering, so that tests of
everything between them need neither dlib nor TensorFlow and know the right answer exactly.
"""

from fractions import Fraction

import av
import cv2
import numpy as np

from facegan.bundle import Manifest, TensorSpec
from facegan.face.conditioning import ConditioningConfig, encode_conditioning
from facegan.face.landmarks import MEAN_SHAPE, Face

GREEN = np.array([40, 160, 60], np.uint8)


def red_square_frame(height_px, width_px, squares):
    """A green frame with red squares (left, top, side) on it."""
    image = np.empty((height_px, width_px, 3), np.uint8)
    image[:] = GREEN
    for left, top, side in squares:
        image[top : top + side, left : left + side] = (220, 20, 30)
    return image


class RedSquareDetector:
    """Every red square is a face: the mean face, fitted into the square."""

    def detect(self, image):
        red = (image[..., 0] > 130) & (image[..., 1] < 100)
        count, _, stats, _ = cv2.connectedComponentsWithStats(red.astype(np.uint8))
        boxes = [stats[i] for i in range(1, count) if stats[i][4] > 60]
        boxes.sort(key=lambda b: -int(b[4]))
        return [self._face(b[0], b[1], max(b[2], b[3])) for b in boxes]

    def refine(self, image, box_xyxy_px):
        middle = (box_xyxy_px[:2] + box_xyxy_px[2:]) / 2
        for face in self.detect(image):
            other = (face.box_xyxy_px[:2] + face.box_xyxy_px[2:]) / 2
            if np.abs(middle - other).max() < (box_xyxy_px[2] - box_xyxy_px[0]) / 2:
                return face
        return None

    @staticmethod
    def _face(left, top, side):
        landmarks = (MEAN_SHAPE * side + (left, top)).astype(np.float32)
        box = np.array([left, top, left + side, top + side], np.float32)
        return Face(landmarks, box, 1.0)


def drawing_manifest(size_px=64, **changes):
    spec = TensorSpec(name="condition", shape=(None, size_px, size_px, 3))
    values = {
        "model": "drawing",
        "facegan_version": "0",
        "inputs": (spec,),
        "outputs": (TensorSpec(name="image", shape=(None, size_px, size_px, 3)),),
        "image_size": size_px,
        "conditioning": encode_conditioning(ConditioningConfig(size=size_px)),
    }
    return Manifest(**{**values, **changes})


class DrawingEngine:
    """Shows the drawing it is given."""

    name, precision = "drawing", "float32"

    def __init__(self, size_px=64, **changes):
        self.manifest = drawing_manifest(size_px, **changes)
        self.num_generated = 0

    def generate(self, inputs):
        self.num_generated += len(inputs["condition"])
        return inputs["condition"].copy()


def write_clip(
    path, frames, pts, *, time_base=Fraction(1, 1000), rate=25, audio_s=None, audio_start_s=0.0
):
    """Writes frames with given time stamps as H.264, with a tone of some length beside them."""
    with av.open(str(path), "w") as container:
        height, width = frames[0].shape[:2]
        video = container.add_stream("libx264", rate=rate, options={"crf": "10", "bf": "0"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.time_base = video.codec_context.time_base = time_base
        sound = None
        if audio_s is not None:
            sound = container.add_stream("aac", rate=44100, layout="mono")
        for image, stamp in zip(frames, pts, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            wave = np.sin(np.arange(int(44100 * audio_s)) * 0.06).astype(np.float32)[None] * 0.5
            for start in range(0, wave.shape[1], 1024):
                block = np.ascontiguousarray(wave[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44100, start + int(44100 * audio_start_s)
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


def moving_square_clip(path, count=60, *, size_hw=(96, 96), missing=(), audio=True, squares=None):
    """A clip of variable frame rate in which a face moves; returns its time stamps in ms."""
    height, width = size_hw
    frames = []
    for i in range(count):
        place = (round(20 + 6 * np.sin(i / 7)) + (width - 96), round(24 + 4 * np.cos(i / 9)), 48)
        shown = [] if i in missing else [place]
        frames.append(red_square_frame(height, width, shown if squares is None else squares(i)))
    # Every seventh frame comes late, as phones do it.
    pts = [40 * i + (15 if i % 7 == 3 else 0) for i in range(count)]
    write_clip(path, frames, pts, audio_s=count * 0.04 if audio else None)
    return pts


def read_clip(path):
    """Frames [N, H, W, 3] uint8 and time stamps in ms."""
    from facegan.video.reader import VideoReader

    with VideoReader(path) as reader:
        frames = list(reader)
    stamps = [round(1000 * frame.pts * frame.time_base) for frame in frames]
    return np.stack([frame.image for frame in frames]), stamps


def audio_packets(path):
    """Bytes of the sound's packets, and when the sound starts and ends, in seconds."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        packets = [p for p in container.demux(audio=0) if p.size]
        start = float(packets[0].pts * packets[0].time_base)
        end = float((packets[-1].pts + packets[-1].duration) * packets[-1].time_base)
        return [bytes(p) for p in packets], start, end
