"""The embedded clips: people who talk."""

import dataclasses

import av
import numpy as np
import pytest

from facegan import samples
from facegan.errors import ConfigError, VideoError

NAMES = ("collins", "hopper")
STILL = samples._Moment(0.0, 0.0, (0.0, 0.0), 0.0, 0.0, 0.0, 0.0, (0.0, 0.0), 0.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    return {n: samples.write_sample_clip(n, folder / f"{n}.mp4", duration_s=3.0) for n in NAMES}


@pytest.fixture(scope="module")
def rigs():
    return {n: samples._Rig(samples._PEOPLE[n], samples.sample_portrait(n), 256) for n in NAMES}


def decode_video(path):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def decode_sound(path):
    with av.open(str(path)) as container:
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])


@pytest.mark.parametrize("name", NAMES)
def test_portraits_are_square_colour_pictures(name):
    picture = samples.sample_portrait(name)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[2] == 3
    assert picture.shape[0] == picture.shape[1] >= 200


@pytest.mark.parametrize("name", NAMES)
def test_clips_have_picture_and_sound_of_one_length(clips, name):
    with av.open(str(clips[name])) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.average_rate) == (256, 256, 25)
        assert audio.codec_context.name == "aac"
    assert len(decode_video(clips[name])) == 75
    assert len(decode_sound(clips[name])) / samples.AUDIO_RATE_HZ == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_the_mouth_opens_with_the_voice(name):
    person = samples._PEOPLE[name]
    speech = samples._speak(person, 6.0)
    opening = np.array([m.opening for m in samples._plan_motion(person, speech, 6.0, 25)])
    windows = np.square(speech.sound[: 150 * 1764]).reshape(150, 1764)
    loud = np.sqrt(windows.mean(axis=1))
    assert np.corrcoef(loud, opening)[0, 1] > 0.6
    assert opening.min() == 0.0
    assert opening.max() > 0.6 * person.max_opening
    assert opening[loud < 1e-3].max() < 0.03


def test_the_same_call_gives_the_same_bytes(clips, tmp_path):
    again = samples.write_sample_clip("hopper", tmp_path / "again.mp4", duration_s=3.0)
    assert again.read_bytes() == clips["hopper"].read_bytes()


def test_two_people_move_and_sound_differently():
    moves, pitches = [], []
    for name in NAMES:
        person = samples._PEOPLE[name]
        speech = samples._speak(person, 4.0)
        moves.append([m.yaw for m in samples._plan_motion(person, speech, 4.0, 25)])
        spectrum = np.abs(np.fft.rfft(speech.sound))
        hz = np.fft.rfftfreq(len(speech.sound), 1 / samples.AUDIO_RATE_HZ)
        band = (hz > 90) & (hz < 280)
        pitches.append(hz[band][spectrum[band].argmax()])
    assert abs(np.corrcoef(*moves)[0, 1]) < 0.9
    assert abs(pitches[0] - pitches[1]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_dlib_finds_one_face_that_opens_its_mouth(clips, name):
    dlib = pytest.importorskip("dlib")
    from facegan.face.landmarks import DetectorConfig, make_detector

    assert dlib
    detector = make_detector(DetectorConfig(name="dlib"))
    gaps = []
    for frame in decode_video(clips[name])[::4]:
        faces = detector.detect(frame)
        assert len(faces) == 1
        xy = faces[0].landmarks_xy_px
        unit = np.linalg.norm(xy[36:42].mean(0) - xy[42:48].mean(0))
        gaps.append((xy[[67, 66, 65], 1] - xy[[61, 62, 63], 1]).mean() / unit)
    assert min(gaps) < 0.08
    assert max(gaps) > 0.25


@pytest.mark.parametrize("name", NAMES)
def test_a_face_at_rest_is_the_portrait(rigs, name):
    """Only the mouth may differ: a smile that shows teeth is closed."""
    rig = rigs[name]
    difference = np.abs(rig.render(STILL).astype(int) - rig.image).max(axis=2)
    part = np.ones_like(difference, bool)
    part[rig._jaw_part] = False
    assert difference[part].max() <= 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "mean_levels"),
    [({"opening": 0.5}, 1.0), ({"blink": (1.0, 1.0)}, 0.1), ({"yaw": 0.2}, 1.0)],
)
def test_each_movement_changes_the_picture(rigs, name, change, mean_levels):
    rig = rigs[name]
    moved = rig.render(dataclasses.replace(STILL, **change)).astype(int)
    assert np.abs(moved - rig.render(STILL)).mean() > mean_levels


@pytest.mark.parametrize("name", NAMES)
def test_an_open_mouth_is_dark_inside(rigs, name):
    rig = rigs[name]
    row = int(rig._mouth_y + 0.2 * rig.unit)
    column = int(rig._mouth_x)
    spot = np.s_[row - 1 : row + 2, column - 2 : column + 3]
    closed = rig.render(STILL)[spot].mean()
    opened = rig.render(dataclasses.replace(STILL, opening=0.55))[spot].mean()
    assert opened < 0.65 * closed


@pytest.mark.parametrize("name", NAMES)
def test_movement_is_continuous_and_spares_the_border(name):
    """No tears: what moves a little from frame to frame changes a little."""
    frames = list(samples.sample_frames(name, duration_s=2.0, size=128))
    steps = [np.abs(a.astype(int) - b).mean() for a, b in zip(frames[1:], frames[:-1], strict=True)]
    assert 0.02 < np.median(steps)
    assert max(steps) < 8.0
    sides = np.stack(frames)[:, :, [0, -1]].astype(int)
    assert np.ptp(sides, axis=0).max() <= 60


def test_a_shorter_clip_is_rendered_at_any_rate_and_size():
    frames = list(samples.sample_frames("collins", duration_s=0.4, size=64, fps=10))
    assert [f.shape for f in frames] == [(64, 64, 3)] * 4


def test_refusals(tmp_path, clips):
    with pytest.raises(ConfigError, match="Did you mean 'hopper'"):
        samples.sample_portrait("hoper")
    for name, value in (("duration_s", 0.0), ("size", 63), ("size", 2048), ("fps", 0)):
        with pytest.raises(ConfigError, match=name):
            samples.write_sample_clip("hopper", tmp_path / "x.mp4", **{name: value})
    assert not list(tmp_path.iterdir())
    with pytest.raises(VideoError):
        samples.write_sample_clip("hopper", clips["hopper"], duration_s=0.4)
