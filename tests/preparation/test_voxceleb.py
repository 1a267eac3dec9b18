import pytest

from facegan.preparation.sources import open_source
from facegan.preparation.voxceleb import VideoWork, VoxCelebConfig, list_videos


def _tree(tmp_path, names, size=2000):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return open_source(tmp_path)


def _keys(listing):
    return {split: [item.key for item in items] for split, items in listing.splits.items()}


def test_videos_are_grouped_and_splits_follow_the_folders(tmp_path):
    names = [
        "dev/mp4/id1/v/1.mp4",
        "dev/mp4/id1/v/2.mp4",
        "dev/mp4/id2/w/1.mp4",
        "test/id3/x/1.mp4",
    ]
    listing = list_videos(_tree(tmp_path, [*names, "dev/mp4/id1/v/1.m4a"]), VoxCelebConfig())
    assert _keys(listing) == {"train": ["id1/v", "id2/w"], "validation": [], "test": ["id3/x"]}
    assert listing.splits["train"][0].files == tuple(names[:2])
    assert [item.data["video_index"] for item in listing.splits["train"]] == [0, 1]
    assert listing.left_out == []


def test_an_identity_stays_in_one_split_whatever_else_there_is(tmp_path):
    names = [f"id{n}/v{m}/1.mp4" for n in range(30) for m in range(2)]
    config = VoxCelebConfig(validation=0.2, test=0.3)
    before = list_videos(_tree(tmp_path, names), config)
    split_of = {
        item.data["identity"]: split for split, items in before.splits.items() for item in items
    }
    assert set(split_of.values()) == {"train", "validation", "test"}
    after = list_videos(_tree(tmp_path, [f"more{n}/v/1.mp4" for n in range(30)]), config)
    for split, items in after.splits.items():
        for item in items:
            assert split_of.get(item.data["identity"], split) == split


def test_an_identity_in_two_folders_is_taken_once(tmp_path):
    source = _tree(tmp_path, ["dev/id1/v/1.mp4", "test/id1/w/1.mp4", "test/id2/w/1.mp4"])
    listing = list_videos(source, VoxCelebConfig())
    assert _keys(listing) == {"train": ["id1/v"], "validation": [], "test": ["id2/w"]}
    assert [(e.file, e.reason) for e in listing.left_out] == [
        ("test/id1/w/1.mp4", "identity_twice")
    ]


def test_tiny_and_misplaced_files_are_named(tmp_path):
    _tree(tmp_path, ["id1/v/1.mp4"], 1023)
    _tree(tmp_path, ["id1/v/2.mp4"], 0)
    listing = list_videos(_tree(tmp_path, ["loose.mp4", "id1/loose.mp4"]), VoxCelebConfig())
    assert {e.file: e.reason for e in listing.left_out} == {
        "id1/v/1.mp4": "tiny",
        "id1/v/2.mp4": "tiny",
        "loose.mp4": "wrong_place",
        "id1/loose.mp4": "wrong_place",
    }


@pytest.mark.parametrize(("record", "keys"), [("video", ["a/v"]), ("clip", ["a/v/1", "a/v/2"])])
def test_what_a_record_is(tmp_path, record, keys):
    listing = list_videos(
        _tree(tmp_path, ["a/v/1.mp4", "a/v/2.mp4"]), VoxCelebConfig(test=0, record=record)
    )
    assert _keys(listing)["train"] == keys


def test_a_video_whose_clips_are_all_bad_is_no_record(tmp_path):
    source = _tree(tmp_path, ["a/v/1.mp4", "a/v/2.mp4"])
    config = VoxCelebConfig(test=0)
    (item,) = list_videos(source, config).splits["train"]
    outcome = VideoWork(source, config)(item)
    assert outcome.records == ()
    assert [e.reason for e in outcome.left_out] == ["unreadable", "unreadable", "too_few_frames"]
