"""Two animated public-domain portraits with sound: input that needs no file of the user's.

The portraits come with packages: Eileen Collins (NASA) with scikit-image, Grace Hopper (US Navy)
with matplotlib. Each is warped along its landmarks into a talking clip: a synthesised voice moves
jaw and lips, and blinks, brows, turns, nods and shifts of the head follow smooth random curves.
Everything follows from the person's name and the duration, so the same call gives the same clip.

A frame is made backwards: for each pixel of it, the place in the portrait that it shows. The mouth
takes two such maps, one that moves with the upper jaw and one that moves with the lower, and where
neither reaches, one looks into the mouth.
"""

import dataclasses
import os
import pathlib
import tempfile
import wave
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import cv2
import numpy as np

from facegan.config import unknown_name
from facegan.errors import ConfigError
from facegan.image import resize

SampleName = Literal["collins", "hopper"]
AUDIO_RATE_HZ = 44100
# Frames are rendered larger than asked for and reduced, so that warped edges stay clean.
_SUPERSAMPLING = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Person:
    """A portrait and its rig; places are in pixels of the portrait, sizes in eye distances."""

    seed: int
    crop: tuple[int, int, int]  # left, top, side
    eyes: tuple[tuple[float, float], tuple[float, float]]  # centres
    # Per eye: outline of the upper and of the lower lid, from left to right.
    upper_lids: tuple[tuple[tuple[float, float], ...], ...]
    lower_lids: tuple[tuple[tuple[float, float], ...], ...]
    brows: tuple[tuple[float, float], tuple[float, float]]
    brow_lift: float
    # Lower edge of the upper lip and upper edge of the lower lip, corner to corner.
    upper_lip: tuple[tuple[float, float], ...]
    lower_lip: tuple[tuple[float, float], ...]
    nose_y: float
    chin: tuple[float, float]
    head: tuple[float, float, float, float]  # centre and half axes of head with hair or hat
    pitch_hz: float
    formant_scale: float  # shorter vocal tracts have higher formants
    max_opening: float
    has_teeth: bool  # the portrait shows the upper teeth itself
    motion: float  # how much the head moves
    lid_shade: float
    lid_rise: float  # where a lid begins, above the eye
    lashes: tuple[float, float]  # thickness and darkness


_PEOPLE = {
    "collins": _Person(
        seed=1995,
        crop=(105, 2, 244),
        eyes=((203.6, 101.0), (248.0, 102.5)),
        upper_lids=(
            ((192.6, 101.0), (197.6, 97.6), (203.0, 96.4), (208.4, 98.2), (213.4, 103.6)),
            ((237.2, 104.6), (241.4, 100.4), (246.8, 98.8), (252.2, 100.0), (258.8, 103.6)),
        ),
        lower_lids=(
            ((192.6, 101.0), (197.0, 103.4), (202.6, 105.2), (208.4, 104.6), (213.4, 103.6)),
            ((237.2, 104.6), (241.4, 106.2), (246.2, 107.0), (252.2, 106.2), (258.8, 103.6)),
        ),
        brows=((202.0, 89.5), (251.0, 91.5)),
        brow_lift=0.07,
        upper_lip=(
            (202.6, 140.2),
            (208.5, 140.9),
            (216.9, 142.9),
            (223.4, 143.6),
            (229.8, 143.0),
            (240.0, 141.6),
            (246.0, 141.2),
        ),
        lower_lip=(
            (202.6, 140.2),
            (209.8, 145.4),
            (216.9, 148.8),
            (223.4, 149.8),
            (229.8, 148.6),
            (236.6, 145.4),
            (246.0, 141.2),
        ),
        nose_y=133.5,
        chin=(221.2, 178.5),
        head=(226.0, 100.0, 74.0, 84.0),
        pitch_hz=205.0,
        formant_scale=1.12,
        max_opening=0.50,
        has_teeth=True,
        motion=0.9,
        lid_shade=0.93,
        lid_rise=0.02,
        lashes=(0.022, 0.75),
    ),
    "hopper": _Person(
        seed=1906,
        crop=(41, 2, 444),
        eyes=((221.5, 194.0), (304.5, 189.5)),
        upper_lids=(
            ((202.5, 196.5), (212.5, 188.6), (222.0, 185.2), (230.3, 188.0), (237.6, 196.0)),
            ((290.0, 192.5), (297.6, 185.6), (306.0, 182.2), (314.6, 185.6), (320.6, 191.4)),
        ),
        lower_lids=(
            ((202.5, 196.5), (210.6, 199.0), (221.4, 198.8), (230.0, 197.8), (237.6, 196.0)),
            ((290.0, 192.5), (296.6, 195.0), (305.2, 194.8), (314.0, 193.8), (320.6, 191.4)),
        ),
        brows=((213.0, 162.0), (309.0, 156.0)),
        brow_lift=0.04,
        upper_lip=(
            (231.0, 280.2),
            (242.0, 278.6),
            (255.0, 278.9),
            (266.0, 279.3),
            (277.4, 278.0),
            (290.0, 276.8),
            (300.0, 276.4),
        ),
        lower_lip=(
            (231.0, 280.2),
            (242.0, 278.6),
            (255.0, 278.9),
            (266.0, 279.3),
            (277.4, 278.0),
            (290.0, 276.8),
            (300.0, 276.4),
        ),
        nose_y=252.0,
        chin=(269.0, 332.0),
        head=(264.0, 190.0, 122.0, 170.0),
        pitch_hz=150.0,
        formant_scale=1.0,
        max_opening=0.55,
        has_teeth=False,
        motion=1.15,
        # Clearer than the other's: behind glasses a detector sees faint lids as open eyes.
        lid_shade=1.02,
        lid_rise=0.06,
        lashes=(0.035, 0.9),
    ),
}

# Vowels: first three formants in Hz, how far the mouth opens (1 = all), how wide it gets.
_VOWELS = (
    ((800.0, 1300.0, 2600.0), 1.00, 0.05),
    ((550.0, 1850.0, 2550.0), 0.65, 0.15),
    ((320.0, 2300.0, 3000.0), 0.35, 0.22),
    ((500.0, 900.0, 2500.0), 0.75, -0.22),
    ((340.0, 750.0, 2350.0), 0.40, -0.32),
    ((600.0, 1200.0, 2500.0), 0.55, 0.0),
)


@dataclasses.dataclass(frozen=True)
class _Speech:
    """A voice, and what the mouth does with it at the same sample rate."""

    sound: np.ndarray  # [N] float64 in [-1, 1]
    openness: np.ndarray  # [N] of the vowels being formed, 0 to 1
    width: np.ndarray  # [N]


@dataclasses.dataclass(frozen=True)
class _Moment:
    """What the face does in one frame; angles in radians, sizes in eye distances."""

    opening: float
    width: float
    blink: tuple[float, float]
    brow: float
    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    scale: float


def sample_portrait(name: SampleName) -> np.ndarray:
    """The square around a portrait's face that its clip is made from.

    Returns:
        [S, S, 3] uint8, S being what the portrait gives.

    Raises:
        ConfigError: No portrait has that name, or the package that carries it is not installed.
    """
    left, top, side = _person(name).crop
    return _load_portrait(name)[top : top + side, left : left + side].copy()


def sample_frames(
    name: SampleName, *, duration_s: float = 10.0, size: int = 256, fps: int = 25
) -> Iterator[np.ndarray]:
    """Renders the frames of a sample clip one by one.

    Args:
        name: "collins" or "hopper".
        duration_s: Length of the clip, 0.2 to 600 seconds.
        size: Height and width in pixels, even, 64 to 1024.
        fps: Frames per second.

    Yields:
        [size, size, 3] uint8.
    """
    _check(name, duration_s, size, fps)
    person = _person(name)
    speech = _speak(person, duration_s)
    rig = _Rig(person, sample_portrait(name), round(size * _SUPERSAMPLING))
    for moment in _plan_motion(person, speech, duration_s, fps):
        yield resize(rig.render(moment), size, size)


def write_sample_clip(
    name: SampleName,
    path: str | os.PathLike[str],
    *,
    duration_s: float = 10.0,
    size: int = 256,
    fps: int = 25,
    overwrite: bool = False,
) -> pathlib.Path:
    """Writes a sample clip with its voice, the same bytes for the same arguments.

    Args:
        name: "collins" or "hopper".
        path: The video, .mp4, .mov or .mkv.
        duration_s: Length of the clip, 0.2 to 600 seconds.
        size: Height and width in pixels, even, 64 to 1024.
        fps: Frames per second.
        overwrite: Replace an existing file instead of refusing.

    Returns:
        The path.

    Raises:
        ConfigError: An argument is out of its range.
        VideoError: The file exists or cannot be written.

    Example:
        >>> from facegan.samples import write_sample_clip
        >>> write_sample_clip("hopper", "style.mp4", duration_s=2)  # doctest: +SKIP
    """
    from facegan.video.writer import VideoWriter

    _check(name, duration_s, size, fps)
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix="facegan-sample-") as folder:
        sound = pathlib.Path(folder) / "voice.wav"
        _write_wave(sound, _speak(_person(name), duration_s).sound)
        with VideoWriter(
            path,
            width=size,
            height=size,
            frame_rate=fps,
            time_base=Fraction(1, fps),
            audio_from=sound,
            overwrite=overwrite,
        ) as writer:
            frames = sample_frames(name, duration_s=duration_s, size=size, fps=fps)
            for index, frame in enumerate(frames):
                writer.write(frame, index)
    return path


def _check(name: str, duration_s: float, size: int, fps: int) -> None:
    _person(name)
    if not 0.2 <= duration_s <= 600.0:
        raise ConfigError(f"duration_s must be in [0.2, 600], got {duration_s}.")
    if not 64 <= size <= 1024 or size % 2:
        raise ConfigError(f"size must be an even number in [64, 1024], got {size}.")
    if not 1 <= fps <= 120:
        raise ConfigError(f"fps must be in [1, 120], got {fps}.")


def _person(name: str) -> _Person:
    if name not in _PEOPLE:
        raise unknown_name("The sample name", name, _PEOPLE, what="value")
    return _PEOPLE[name]


def _load_portrait(name: str) -> np.ndarray:
    try:
        if name == "collins":
            import skimage.data

            return np.asarray(skimage.data.astronaut())
        import matplotlib.cbook
        from PIL import Image

        path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except ImportError as error:
        raise ConfigError(
            f"The portrait {name!r} comes with scikit-image or matplotlib, which cannot be "
            f"imported ({error}). Install them with: pip install 'facegan[samples]'."
        ) from error


# Voice


def _speak(person: _Person, duration_s: float) -> _Speech:
    """Babbles: phrases of syllables with pauses between, as harmonics under moving formants."""
    rng = np.random.default_rng(person.seed)
    count = round(duration_s * AUDIO_RATE_HZ)
    time_s = np.arange(count) / AUDIO_RATE_HZ
    # Knots of piecewise curves: time, loudness, formants, openness, width, melody.
    knots: list[tuple[float, ...]] = [(0.0, 0.0, *_VOWELS[5][0], 0.0, 0.0, 0.0)]
    now = 0.15
    while now < duration_s:
        syllables = int(rng.integers(5, 12))
        loud = rng.uniform(0.75, 1.0)
        for k in range(syllables):
            formants, vowel_opens, vowel_width = _VOWELS[rng.integers(len(_VOWELS))]
            length = rng.uniform(0.16, 0.30) * (1.5 if k == syllables - 1 else 1.0)
            stress = loud * (1.0 if rng.random() < 0.4 else rng.uniform(0.55, 0.8))
            closing = 0.0 if rng.random() < 0.4 else rng.uniform(0.1, 0.35)
            tone = 0.12 * (1.0 - 2.0 * k / syllables) + rng.uniform(-0.05, 0.05)
            knots += [
                (now, closing * stress, *formants, closing * vowel_opens, vowel_width / 2, tone),
                (now + 0.3 * length, stress, *formants, vowel_opens, vowel_width, tone),
                (now + 0.7 * length, 0.85 * stress, *formants, vowel_opens, vowel_width, tone),
            ]
            now += length
        knots.append((now, 0.0, *formants, 0.0, 0.0, -0.2))
        now += rng.uniform(0.3, 0.65)
        knots.append((now - 0.05, 0.0, *formants, 0.0, 0.0, 0.0))
    table = np.array(knots)
    curves = [np.interp(time_s, table[:, 0], column) for column in table[:, 1:].T]
    loudness, f1, f2, f3, openness, width, melody = (_smooth(c, 0.02) for c in curves)

    pitch = person.pitch_hz * np.exp(melody) * (1.0 + 0.01 * np.sin(2 * np.pi * 5.2 * time_s))
    phase = 2 * np.pi * np.cumsum(pitch) / AUDIO_RATE_HZ
    sound = np.zeros(count)
    for harmonic in range(1, int(4000 / person.pitch_hz) + 1):
        frequency = harmonic * pitch
        gain = np.full(count, 0.01)
        for formant, bandwidth, weight in ((f1, 90.0, 1.0), (f2, 120.0, 0.6), (f3, 170.0, 0.3)):
            away = (frequency - formant * person.formant_scale) / bandwidth
            gain += weight / (1.0 + away * away)
        sound += gain * harmonic**-0.6 * np.sin(harmonic * phase)
    breath = _smooth(rng.standard_normal(count), 0.0002)
    sound = (sound + 0.3 * breath) * loudness
    sound *= 0.7 / max(float(np.abs(sound).max()), 1e-9)
    return _Speech(sound, openness, width)


def _smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Moving average twice over, ends repeated."""
    half = max(1, round(seconds * AUDIO_RATE_HZ / 2))
    for _ in range(2):
        padded = np.concatenate([np.full(half + 1, values[0]), values, np.full(half, values[-1])])
        total = np.cumsum(padded)
        values = (total[2 * half + 1 :] - total[: -2 * half - 1]) / (2 * half + 1)
    return values


def _write_wave(path: pathlib.Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(AUDIO_RATE_HZ)
        file.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


# Motion


def _plan_motion(
    person: _Person, speech: _Speech, duration_s: float, fps: int
) -> Iterator[_Moment]:
    rng = np.random.default_rng(person.seed + 1)
    count = max(1, round(duration_s * fps))
    time_s = np.arange(count) / fps
    at = np.minimum((time_s * AUDIO_RATE_HZ).astype(int), len(speech.sound) - 1)
    loudness = np.sqrt(np.maximum(_smooth(np.square(speech.sound), 0.05), 0.0))
    loudness /= max(float(np.quantile(loudness, 0.97)), 1e-6)
    opening = np.clip(loudness[at], 0.0, 1.0) ** 0.6 * (0.25 + 0.75 * speech.openness[at])
    opening = np.where(loudness[at] < 0.03, 0.0, opening) * person.max_opening
    speaking = np.clip(loudness[at], 0.0, 1.0)

    def wander(slowest_hz: float, fastest_hz: float) -> np.ndarray:
        """A smooth random curve around zero that reaches one or minus one."""
        out = np.zeros(count)
        for _ in range(4):
            hz = rng.uniform(slowest_hz, fastest_hz)
            out += np.sin(2 * np.pi * (hz * time_s + rng.random())) / 2
        out -= out.mean()
        return out / max(float(np.abs(out).max()), 0.3)

    blinks = np.zeros(count)
    moment = rng.uniform(0.6, 1.4)
    while moment < duration_s:
        away = np.abs(time_s - moment)
        blinks = np.maximum(blinks, np.clip((0.17 - away) / 0.11, 0.0, 1.0))
        moment += rng.uniform(1.4, 3.2)
    wink = 1.0 - 0.04 * rng.random(2)
    yaw, pitch = 0.19 * wander(0.08, 0.35), 0.08 * wander(0.1, 0.45)
    # The head dips a little with each loud syllable.
    dips = np.convolve(np.pad(speaking, 3, mode="edge"), np.full(7, 1 / 7), mode="valid")
    pitch = pitch + 0.05 * (dips - dips.mean())
    roll = 0.045 * wander(0.07, 0.3)
    shift_x, shift_y = 0.09 * wander(0.06, 0.25), 0.06 * wander(0.06, 0.3)
    scale = 0.03 * wander(0.05, 0.2)
    brow = np.clip(0.6 * wander(0.1, 0.4) + 0.5 * (dips - dips.mean()), -0.5, 1.2)
    m = person.motion
    for i in range(count):
        yield _Moment(
            opening=float(opening[i]),
            width=float(speech.width[at[i]] * speaking[i]),
            blink=(float(blinks[i] * wink[0]), float(blinks[i] * wink[1])),
            brow=float(brow[i]),
            yaw=float(m * yaw[i]),
            pitch=float(m * pitch[i]),
            roll=float(m * roll[i]),
            shift=(float(m * shift_x[i]), float(m * shift_y[i])),
            scale=float(m * scale[i]),
        )


# Picture


class _Rig:
    """A portrait at rendering size, and the fields that move it."""

    def __init__(self, person: _Person, portrait: np.ndarray, size_px: int) -> None:
        self.person, self.size_px = person, size_px
        left, top, side = person.crop
        self._zoom = size_px / side
        self._origin = np.array([left, top]) - 0.5  # pixel centres stay pixel centres
        method = cv2.INTER_AREA if size_px < side else cv2.INTER_CUBIC
        self.image = cv2.resize(portrait, (size_px, size_px), interpolation=method)
        right, left_eye = self._place(person.eyes)
        self.unit = float(np.linalg.norm(left_eye - right))  # one eye distance in pixels
        self._middle = (right + left_eye) / 2
        grid = np.arange(size_px, dtype=np.float32)
        self._x, self._y = np.meshgrid(grid, grid)
        self._chin = self._place((person.chin,))[0]
        self._nose_y = self._place(((0.0, person.nose_y),))[0, 1]
        self._plan_head()
        self._plan_mouth()

    def _place(self, points: tuple[tuple[float, float], ...]) -> np.ndarray:
        return (np.array(points) - self._origin) * self._zoom - 0.5

    def _plan_head(self) -> None:
        x, y, half_x, half_y = self.person.head
        centre = self._place(((x, y),))[0]
        u = (self._x - centre[0]) / (half_x * self._zoom)
        v = (self._y - centre[1]) / (half_y * self._zoom)
        inside = np.sqrt(u * u + v * v)
        # One on the head; gone where shoulders and the border of the picture are.
        follows = 1.0 - _ramp(inside, 0.9, 1.75)
        self._neck_y = float(self._chin[1] + 0.9 * self.unit)
        follows *= 1.0 - 0.85 * _ramp(self._y, self._chin[1], self._neck_y)
        edge = np.minimum.reduce([self._x, self.size_px - 1 - self._x, self.size_px - 1 - self._y])
        follows *= _ramp(edge, 0.0, 0.10 * self.size_px)
        follows *= _ramp(self._y, -0.02 * self.size_px, 0.04 * self.size_px)
        # An ellipsoid with a nose on it, in eye distances towards the camera, zero where a head
        # that turns stays in its place: behind the eyes, before the ears.
        face_u = (self._x - self._middle[0]) / self.unit
        face_v = (self._y - self._middle[1]) / self.unit
        depth = 0.55 - 0.75 * np.minimum(face_u**2 + 0.35 * (face_v - 0.3) ** 2, 2.0)
        nose_v = (self._nose_y - self._middle[1]) / self.unit - 0.1
        bump = np.exp(-(face_u**2) / 0.045 - np.square((face_v - nose_v) / 0.42))
        depth = np.maximum(depth, -0.7) + 0.28 * bump + 0.25
        self._follows = follows.astype(np.float32)
        self._depth = (follows * depth * self.unit).astype(np.float32)

    def _plan_mouth(self) -> None:
        upper, lower = self._place(self.person.upper_lip), self._place(self.person.lower_lip)
        columns = np.arange(self.size_px)
        self._upper_y = _curve(columns, upper)
        self._lower_y = _curve(columns, lower)
        self._gap = np.maximum(self._lower_y - self._upper_y, 0.0)
        self._corners = lower[0, 0], lower[-1, 0]
        self._mouth_x = (self._corners[0] + self._corners[1]) / 2
        half = (self._corners[1] - self._corners[0]) / 2
        across = np.clip(1.0 - np.square((columns - self._mouth_x) / half), 0.0, None)
        self._arch = across**0.6
        jaw = (columns - self._chin[0]) / (0.95 * self.unit)
        self._jaw = np.exp(-(jaw**6))
        self._half_mouth = half
        self._mouth_y = float(lower[:, 1].mean())
        # Nothing that the mouth moves ever leaves this part of a frame.
        left, right = (int(self._mouth_x + s * 1.7 * self.unit) for s in (-1, 1))
        top, bottom = self._nose_y - 0.35 * self.unit, self._neck_y + 0.25 * self.unit
        self._jaw_part = np.s_[max(int(top), 0) : int(bottom), max(left, 0) : right]

    def render(self, moment: _Moment) -> np.ndarray:
        """[size_px, size_px, 3] uint8."""
        x, y = self._unturn_head(moment)
        y = y + self._brow_shift(x, y) * np.float32(moment.brow)
        picture = self._sample(x, y)
        self._close_eyes(picture, x, y, moment)
        self._move_jaw(picture[self._jaw_part], x[self._jaw_part], y[self._jaw_part], moment)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8)

    def _sample(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        image = cv2.remap(
            self.image,
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return image.astype(np.float32)

    def _unturn_head(self, moment: _Moment) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel was before the head moved; the movement's inverse by iteration."""
        # Plain floats: numpy's own would make every array below twice as large.
        cos = float((1.0 + moment.scale) * np.cos(moment.roll) - 1.0)
        sin = float((1.0 + moment.scale) * np.sin(moment.roll))
        pivot = float(self._middle[0]), float(self._chin[1])
        shift_x, shift_y = (s * self.unit for s in moment.shift)
        x, y = self._x, self._y
        for _ in range(3):
            follows = cv2.remap(self._follows, x, y, cv2.INTER_LINEAR)
            depth = cv2.remap(self._depth, x, y, cv2.INTER_LINEAR)
            across, down = x - pivot[0], y - pivot[1]
            move_x = follows * (cos * across - sin * down + shift_x) + moment.yaw * depth
            move_y = follows * (sin * across + cos * down + shift_y) + moment.pitch * depth
            x = (self._x - move_x).astype(np.float32)
            y = (self._y - move_y).astype(np.float32)
        return x, y

    def _brow_shift(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        out = np.zeros_like(x)
        for brow in self._place(self.person.brows).tolist():
            across, down = (x - brow[0]) / (0.40 * self.unit), (y - brow[1]) / (0.20 * self.unit)
            across, down = across * across, down * down
            out += np.exp(-across * across - down)
        return self.person.brow_lift * self.unit * out

    def _unstretch_mouth(self, x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
        across = (x - self._mouth_x) / (1.5 * self._half_mouth)
        down = (y - self._mouth_y) / (0.6 * self.unit)
        across, down = across * across, down * down
        window = np.exp(-across * across - down * down)
        return x - (x - self._mouth_x) * window * (width / (1.0 + max(width, 0.0)))

    def _move_jaw(self, picture: np.ndarray, x: np.ndarray, y: np.ndarray, moment: _Moment) -> None:
        """Draws lips, the inside of the mouth and the lower jaw, in place.

        ``x`` and ``y`` say which place of the portrait, with its mouth as it is, each pixel shows.
        """
        x = self._unstretch_mouth(x, y, moment.width)
        columns = np.arange(self.size_px)
        arch, jaw, seam, gap = (
            np.interp(x, columns, values).astype(np.float32)
            for values in (self._arch, self._jaw, self._lower_y, self._gap)
        )
        opened = moment.opening * self.unit
        upper_y = self._unlift_upper(y, 0.22 * opened * arch, seam - gap)
        at_lip = 0.78 * opened * arch - gap
        at_chin = (0.55 * opened - 0.45 * float(self._gap.max())) * jaw
        lower_y = self._undrop_lower(y, at_lip, at_chin, seam)

        picture[:] = self._sample(x, upper_y)
        below_upper = np.clip(upper_y - seam + 0.5, 0.0, 1.0) * np.minimum(arch * 8.0, 1.0)
        inside = self._inside(x, upper_y - seam, seam - lower_y)
        picture += (inside - picture) * below_upper[..., None]
        # Where the lips do not part, both layers are the same picture and the edge cannot be seen.
        soft = 0.012 * self.unit + 0.5
        in_lower = np.clip((lower_y - seam) / soft + 0.5, 0.0, 1.0)[..., None]
        picture += (self._sample(x, lower_y) - picture) * in_lower

    def _unlift_upper(self, y: np.ndarray, lift: np.ndarray, lip: np.ndarray) -> np.ndarray:
        """Rows of the portrait that the layer of the upper jaw shows."""
        reach = np.maximum(lip - self._nose_y, 1.0)
        rows = y
        for _ in range(4):
            near = np.clip(1.0 - (lip - rows) / reach, 0.0, 1.0)
            rows = y + lift * near * near * (3.0 - 2.0 * near)
        return rows

    def _undrop_lower(
        self, y: np.ndarray, at_lip: np.ndarray, at_chin: np.ndarray, seam: np.ndarray
    ) -> np.ndarray:
        """Rows of the portrait that the layer of the lower jaw shows."""
        depth = np.maximum(self._chin[1] - 0.1 * self.unit - seam, 1.0)
        rows = y
        for _ in range(7):
            share = np.clip((rows - seam) / depth, 0.0, 1.0)
            share = share * share * (3.0 - 2.0 * share)
            end = 1.0 - _ramp(rows, self._chin[1] + 0.02 * self.unit, self._neck_y)
            rows = y - (at_lip + (at_chin - at_lip) * share) * end
        return rows

    def _inside(self, x: np.ndarray, under_upper: np.ndarray, over_lower: np.ndarray) -> np.ndarray:
        """Colours of the open mouth: dark, with teeth below the upper lip and a tongue."""
        across = (x - self._mouth_x) / self._half_mouth
        side = np.clip(1.0 - across**2, 0.0, 1.0)[..., None]
        below = (under_upper / self.unit)[..., None]
        above = (over_lower / self.unit)[..., None]
        colour = np.array([46.0, 16.0, 18.0]) * (0.35 + 0.65 * side) + np.zeros_like(below)
        tongue = (1.0 - _ramp(above, 0.02, 0.17)) * side**1.5
        colour += (np.array([150.0, 72.0, 72.0]) - colour) * 0.85 * tongue
        if not self.person.has_teeth:
            teeth = (1.0 - _ramp(below / (0.5 + 0.5 * side), 0.07, 0.1)) * _ramp(side, 0.2, 0.6)
            gaps = 0.85 + 0.15 * np.abs(np.sin(across * 9.0))[..., None]
            shade = (0.70 + 0.30 * _ramp(below, 0.0, 0.05)) * (0.6 + 0.4 * side) * gaps
            colour += (np.array([208.0, 188.0, 160.0]) * shade - colour) * teeth
        return colour.astype(np.float32)

    def _close_eyes(
        self, picture: np.ndarray, x: np.ndarray, y: np.ndarray, moment: _Moment
    ) -> None:
        """Draws lids over the eyes, from the skin below them turned over, in place."""
        for eye in range(2):
            closed = moment.blink[eye]
            if closed <= 0.0:
                continue
            upper = self._place(self.person.upper_lids[eye])
            lower = self._place(self.person.lower_lids[eye])
            rows = np.flatnonzero(((x > upper[0, 0]) & (x < upper[-1, 0])).any(axis=1))
            middle, reach = upper[:, 1].mean(), 0.35 * self.unit
            near = (np.abs(y - middle) < reach).any(axis=1)
            rows = np.intersect1d(rows, np.flatnonzero(near))
            if not len(rows):
                continue
            part = slice(rows[0], rows[-1] + 1)
            xs, ys = x[part], y[part]
            top = _curve(xs, upper) - self.person.lid_rise * self.unit
            bottom = _curve(xs, lower) + 0.01 * self.unit
            edge = top + closed * (bottom - top)
            ends = _ramp(xs, upper[0, 0], upper[0, 0] + 0.06 * self.unit)
            ends *= 1.0 - _ramp(xs, upper[-1, 0] - 0.06 * self.unit, upper[-1, 0])
            lid = np.clip(ys - top + 0.5, 0.0, 1.0) * np.clip(edge - ys + 0.5, 0.0, 1.0) * ends
            # The lid's skin: what is below the eye, as far below as the pixel is above.
            skin = self._sample(xs, bottom + 0.03 * self.unit + 0.7 * (edge - ys))
            thickness, darkness = self.person.lashes
            lashes = np.exp(-np.square((ys - edge) / (thickness * self.unit))) * ends * closed
            skin *= self.person.lid_shade
            target = picture[part]
            target += (skin - target) * lid[..., None]
            target += (np.array([58.0, 40.0, 34.0]) - target) * (darkness * lashes[..., None])


def _curve(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Heights of a smooth line through a few points; level beyond its ends."""
    fit = np.polynomial.Polynomial.fit(points[:, 0], points[:, 1], deg=4)
    inside = np.clip(x, points[0, 0], points[-1, 0])
    return fit(inside)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Zero below ``low``, one above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
