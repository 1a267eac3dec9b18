import numpy as np
import pytest
import tensorflow as tf

from facegan.datasets.few_shot_examples import FewShotExample
from facegan.datasets.pipeline import PipelineConfig, make_pipeline
from facegan.datasets.transforms import Augmentation, AugmentConfig, sample_augmentation
from facegan.errors import ConfigError, DataError
from facegan.face.conditioning import FewShotConditioningConfig
from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.raster import draw_landmarks
from facegan.image import encode_picture

STILL = AugmentConfig(probability=0.0)


def _video(frames, index=0, size=32):
    """Frame ``n`` is grey of ``10 n`` and its face is shifted by ``n`` pixels."""
    return {
        "images": [
            encode_picture(np.full((size, size, 3), 10 * n, np.uint8)) for n in range(frames)
        ],
        "landmarks_xy_px": np.stack([MEAN_SHAPE * size / 2 + (n, 4) for n in range(frames)]).astype(
            np.float32
        ),
        "video_index": np.int64(index),
    }


def _frames_of(example):
    shots = [int(image[0, 0, 0]) // 10 for image in example["images"]]
    return shots, int(example["target"][0, 0, 0]) // 10


def test_outputs_are_as_declared():
    maker = FewShotExample(FewShotConditioningConfig(size=16, shots=3))
    made = maker(_video(6), sample_augmentation(AugmentConfig(), 0, 0))
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs


def test_frames_differ_and_their_drawings_belong_to_them():
    maker, record = FewShotExample(FewShotConditioningConfig(size=32, shots=4)), _video(9)
    seen = set()
    for number in range(20):
        made = maker(record, sample_augmentation(STILL, 3, number))
        shots, target = _frames_of(made)
        assert len({*shots, target}) == 5
        seen.add(target)
        for frame, drawing in zip(shots, made["conditions"], strict=True):
            expected = draw_landmarks(record["landmarks_xy_px"][frame], 32)
            np.testing.assert_array_equal(drawing, expected)
        expected = draw_landmarks(record["landmarks_xy_px"][target], 32)
        np.testing.assert_array_equal(made["target_condition"], expected)
    assert len(seen) > 5


def test_the_choice_follows_from_seed_and_number():
    maker, record = FewShotExample(FewShotConditioningConfig(size=16, shots=2)), _video(8)
    frames = [_frames_of(maker(record, sample_augmentation(STILL, 1, n))) for n in range(8)]
    again = [_frames_of(maker(record, sample_augmentation(STILL, 1, n))) for n in range(8)]
    assert frames == again and len({str(f) for f in frames}) > 4


def test_without_augmentation_frames_are_spread_evenly():
    made = FewShotExample(FewShotConditioningConfig(size=16, shots=2))(_video(9), Augmentation())
    assert _frames_of(made) == ([1, 7], 4)


def test_only_frames_that_are_taken_are_decoded():
    record = _video(9)
    for index in (0, 2, 3, 5, 6, 8):
        record["images"][index] = b"junk"
    FewShotExample(FewShotConditioningConfig(size=16, shots=2))(record, Augmentation())
    record["images"][4] = b"junk"
    with pytest.raises(DataError, match="4 bytes cannot be decoded"):
        FewShotExample(FewShotConditioningConfig(size=16, shots=2))(record, Augmentation())


def test_all_frames_of_an_example_are_moved_alike():
    ramp = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None] * 8, 32, axis=0).repeat(3, axis=2)
    record = {**_video(3), "images": [encode_picture(ramp)] * 3}
    record["landmarks_xy_px"][:] = record["landmarks_xy_px"][0]
    move = Augmentation(flip=True, shift_xy=(0.125, 0.0))
    made = FewShotExample(FewShotConditioningConfig(size=32, shots=2))(record, move)
    expected = ramp[:, ::-1][:, :-4]
    for image in (*made["images"], made["target"]):
        np.testing.assert_array_equal(image[:, 4:], expected)
    landmarks = move.apply_to_landmarks(record["landmarks_xy_px"][0], 32, 32)
    for drawing in (*made["conditions"], made["target_condition"]):
        np.testing.assert_array_equal(drawing, draw_landmarks(landmarks, 32))


def test_too_few_frames_are_an_error_that_names_the_video():
    with pytest.raises(DataError, match="Video 7 has 2 frames; 2 shots need 3"):
        FewShotExample(FewShotConditioningConfig(size=16, shots=2))(
            _video(2, index=7), Augmentation()
        )


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="shots"):
        FewShotConditioningConfig(shots=0)


def _dataset(counts):
    def generate():
        for index, count in enumerate(counts):
            yield _video(count, index)

    return tf.data.Dataset.from_generator(
        generate,
        output_signature={
            "images": tf.TensorSpec([None], tf.string),
            "landmarks_xy_px": tf.TensorSpec([None, 68, 2], tf.float32),
            "video_index": tf.TensorSpec([], tf.int64),
        },
    ).apply(tf.data.experimental.assert_cardinality(len(counts)))


def test_videos_of_different_lengths_go_through_the_pipeline_and_resume():
    records, maker = (
        _dataset([3, 5, 9, 4, 7]),
        FewShotExample(FewShotConditioningConfig(size=16, shots=2)),
    )
    config = PipelineConfig(batch_size=2, shuffle_window=3)

    def batches(start, count):
        pipeline = make_pipeline(records, maker, config, seed=5, start_step=start)
        return list(pipeline.take(count).as_numpy_iterator())

    whole, rest = batches(0, 6), batches(4, 2)
    assert whole[0]["images"].shape == (2, 2, 16, 16, 3)
    assert whole[0]["images"].dtype == np.float32 and whole[0]["target"].min() >= -1
    for a, b in zip(whole[4:], rest, strict=True):
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])
    first_epoch = np.concatenate([b["video_index"] for b in whole])[:5]
    assert sorted(first_epoch) == [0, 1, 2, 3, 4]
