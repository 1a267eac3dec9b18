import json

import av
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.jobs.demo import DemoConfig, demo, make_contact_sheet, plan_demo


def write_ramp(path, count, size=64):
    """A clip whose frame i is grey of level 5 * i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for i in range(count):
            image = np.full((size, size, 3), 5 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def test_the_contact_sheet_takes_the_middles_of_equal_parts(tmp_path):
    video = write_ramp(tmp_path / "ramp.mp4", 40)
    sheet = make_contact_sheet([video, video], 32, columns=4)
    assert sheet.shape == (2 * 32 + 2, 4 * 32 + 3 * 2, 3)
    middles = sheet[16, 16::34, 0].astype(int)
    # Frames 5, 15, 25, 35 of 40; H.264 with video levels is off by a code or two.
    np.testing.assert_allclose(middles, [25, 75, 125, 175], atol=4)
    np.testing.assert_array_equal(sheet[:32], sheet[34:])


def test_a_finished_demo_is_not_done_again(tmp_path):
    config = DemoConfig(size=64, steps=3)
    plan = plan_demo(tmp_path, config)
    result = {"bundle": str(tmp_path), "side_by_side": plan["record"], "marker": 7}
    for name in ("output", "gif", "contact_sheet"):
        result[name] = plan[name]
        (tmp_path / plan[name]).touch()
    record = {"config": plan["config"], "result": result}
    (tmp_path / "demo.json").write_text(json.dumps(record))
    assert demo(tmp_path, config)["marker"] == 7
    with pytest.raises(ConfigError, match="with other settings"):
        demo(tmp_path, DemoConfig(size=64, steps=4))


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty and holds no demo"):
        demo(tmp_path, DemoConfig(size=64, steps=1))
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]
    with pytest.raises(ConfigError, match="Cannot use the folder"):
        demo(tmp_path / "letters.txt", DemoConfig(size=64, steps=1))


@pytest.mark.parametrize("settings", [{"size": 100}, {"size": 32}, {"steps": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ConfigError):
        DemoConfig(**settings)


@pytest.mark.slow
def test_the_whole_demo_in_small(tmp_path):
    config = DemoConfig(size=64, steps=2, duration_s=1.0)
    result = demo(tmp_path / "demo", config)
    assert result["frames"] == 25 and result["audio"] is True
    for name in ("output", "side_by_side", "gif", "contact_sheet"):
        assert (tmp_path / result[name]).stat().st_size > 0
    assert (tmp_path / result["bundle"] / "saved_model.pb").is_file()
    assert demo(tmp_path / "demo", config) == result
