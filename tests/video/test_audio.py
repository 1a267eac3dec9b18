"""Sound is handed out as the picture advances."""

from fractions import Fraction

import av
import pytest

from facegan.errors import VideoError
from facegan.video.audio import AudioFeed


def test_packets_come_in_time_and_only_once(tmp_path, clips):
    source = clips.write(tmp_path / "in.mp4", num_frames=25, audio="aac")
    whole = clips.packets(source, "audio")
    with av.open(str(tmp_path / "out.mp4"), "w") as output:
        feed = AudioFeed(source, output)
        assert feed.present and feed.copied and feed.rate == 16000
        early = [(p.pts * p.time_base, bytes(p)) for p in feed.packets_until(Fraction(1, 2))]
        assert all(time + Fraction(1024, 16000) <= Fraction(1, 2) for time, _ in early)
        late = [(p.pts * p.time_base, bytes(p)) for p in feed.packets_until(Fraction(100))]
        assert early + late == whole and early and late
        assert list(feed.packets_until(Fraction(100))) == []


def test_file_without_sound(tmp_path, clips):
    with av.open(str(tmp_path / "out.mp4"), "w") as output:
        feed = AudioFeed(clips.write(tmp_path / "in.mp4"), output)
        assert not feed.present and list(feed.packets_until(Fraction(9))) == []
        assert not output.streams.audio


def test_unreadable_file(tmp_path):
    with (
        av.open(str(tmp_path / "out.mp4"), "w") as output,
        pytest.raises(VideoError, match="does not exist"),
    ):
        AudioFeed(tmp_path / "none.mp4", output)
