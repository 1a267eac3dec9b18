import numpy as np
import pytest

from facegan.datasets.pipeline import read_records
from facegan.datasets.user_video.user_video_dataset_builder import (
    UserVideoConfig,
    build_user_video,
)
from facegan.face.conditioning import LabelMapConditioningConfig
from facegan.face.parsing import ParserConfig
from facegan.image import decode_picture
from facegan.jobs.reparse import score_regions
from facegan.samples import write_sample_clip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_sample_clip("collins", folder / "a.mp4", duration_s=0.8, size=192, fps=10)
    config = UserVideoConfig(size=128, parser=ParserConfig())
    return build_user_video([folder / "a.mp4"], config, folder / "data")["dataset_dir"]


def test_the_real_pictures_have_the_regions_of_their_records(dataset):
    config = LabelMapConditioningConfig(size=128)
    records = list(read_records(dataset, "train").as_numpy_iterator())
    pictures = [decode_picture(record["image"]) for record in records]
    truth = [decode_picture(record["label_map"])[..., 0] for record in records]
    scores = score_regions(config, dataset, truth, pictures)
    # Landmarks are found anew, so borders move by a pixel.
    assert scores["unseen"] == 0
    assert scores["pixel_accuracy"] > 0.9
    assert scores["iou"]["skin"] > 0.8
    # A picture without a face is background, and counted.
    grey = [np.full((128, 128, 3), 90, np.uint8)] * len(truth)
    scores = score_regions(config, dataset, truth, grey)
    assert scores["unseen"] == len(truth)
    assert scores["accuracy"]["background"] == 1 and scores["accuracy"]["skin"] == 0
