import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data

from facegan.errors import DataError
from facegan.face.align import invert_matrix, transform_points
from facegan.face.landmarks import DetectorConfig
from facegan.face.portrait import extract_portrait, portrait_matrix, portrait_side_px
from facegan.preparation.faces import find_largest_face
from facegan.preparation.items import Rejected
from facegan.preparation.squares import cut_square, read_photo_file
from tests.celebamask_layout import write_picture

DETECTOR = DetectorConfig()


def cut(image, size_px, align="none", **kwargs):
    return cut_square(image, "x.png", size_px, align=align, detector=DETECTOR, **kwargs)


def places(height, width):
    """A picture whose red is four times x and whose green is four times y."""
    y, x = np.indices((height, width))
    return np.stack([4 * x, 4 * y, 0 * x], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def person():
    """Eileen Collins, cut so that the picture is wide: [256, 379, 3]."""
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 101:480])


@pytest.fixture(scope="module")
def face(person):
    return find_largest_face(person, DETECTOR)


@pytest.mark.parametrize(
    ("height", "width", "left", "top"),
    [(32, 32, 0, 0), (32, 60, 14, 0), (32, 61, 14, 0), (60, 32, 0, 14), (61, 32, 0, 14)],
)
def test_the_centred_square_is_cut_and_its_matrix_says_where(height, width, left, top):
    image = places(height, width)
    square = cut(image, 32)
    np.testing.assert_array_equal(square.image, image[top : top + 32, left : left + 32])
    np.testing.assert_allclose(square.matrix, [[1, 0, -left], [0, 1, -top]], atol=1e-12)
    assert square.matrix.dtype == np.float64 and square.landmarks_xy_px is None
    # At half the size a pixel is the mean of four, and lies between them.
    half = cut(image, 16)
    assert half.image.shape == (16, 16, 3)
    expected = [[0.5, 0, -0.5 * left - 0.25], [0, 0.5, -0.5 * top - 0.25]]
    np.testing.assert_allclose(half.matrix, expected, atol=1e-12)
    for size in (8, 16, 32, 128):
        square = cut(image, size)
        y, x = np.indices((size, size))
        there = transform_points(invert_matrix(square.matrix), np.stack([x, y], axis=-1))
        # Where the square is enlarged, its outermost pixels have nothing beyond them.
        inside = slice(0, size) if size <= 32 else slice(size // 64, -size // 64)
        seen = square.image[inside, inside, :2].astype(float)
        np.testing.assert_allclose(seen, 4 * there[inside, inside], atol=0.51)


def test_a_square_of_an_odd_side_is_where_its_matrix_says():
    image = places(45, 58)
    square = cut(image, 15)
    blocks = image[:, 6:51].reshape(15, 3, 15, 3, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(square.image, blocks)
    there = transform_points(invert_matrix(square.matrix), np.array([[0.0, 0.0], [14.0, 14.0]]))
    np.testing.assert_allclose(there, [[7, 1], [49, 43]], atol=1e-12)


def test_landmarks_are_looked_for_only_where_they_are_wanted(person, face):
    assert cut(person, 128).landmarks_xy_px is None
    square = cut(person, 128, landmarks=True)
    found = square.landmarks_xy_px
    assert found.shape == (68, 2) and found.dtype == np.float32
    # The picture's own face, but for what the detector makes of another cut.
    expected = transform_points(square.matrix, face.landmarks_xy_px)
    assert np.abs(found - expected).max() < 0.03 * 128
    # They are right in the square: where it is searched itself, they are found again.
    again = find_largest_face(cut(person, 256).image, DETECTOR)
    np.testing.assert_allclose(again.landmarks_xy_px, 2 * (found + 0.5) - 0.5, atol=0.01)
    assert cut(np.full((64, 80, 3), 90, np.uint8), 64, landmarks=True).landmarks_xy_px is None


def test_the_oriented_square_is_that_of_the_face(person, face):
    square = cut(person, 96, "ffhq")
    matrix = portrait_matrix(face.landmarks_xy_px, 96)
    np.testing.assert_array_equal(square.matrix, matrix)
    np.testing.assert_array_equal(square.image, extract_portrait(person, matrix, 96))
    assert square.landmarks_xy_px.dtype == np.float32
    expected = transform_points(matrix, face.landmarks_xy_px)
    np.testing.assert_allclose(square.landmarks_xy_px, expected, atol=1e-4)


def test_every_portrait_is_cut_where_its_face_is(media_dir):
    for path in sorted((media_dir / "portraits").rglob("*.jpg"))[::8]:
        image = cv2.resize(read_photo_file(path), (512, 512), interpolation=cv2.INTER_AREA)
        square = cut(image, 128, "ffhq")
        matrix = portrait_matrix(find_largest_face(image, DETECTOR).landmarks_xy_px, 128)
        np.testing.assert_array_equal(square.matrix, matrix)
        np.testing.assert_array_equal(square.image, extract_portrait(image, matrix, 128))


def test_small_squares_are_left_out(person, face):
    image = places(40, 63)
    assert cut(image, 32, min_side_px=40).image.shape == (32, 32, 3)
    with pytest.raises(Rejected) as caught:
        cut(image, 64, min_side_px=41)
    assert caught.value.reason == "too_small"
    assert str(caught.value) == (
        "The square cut from x.png is 40 px wide, at least 41 are needed (min_scale)."
    )
    side = portrait_side_px(portrait_matrix(face.landmarks_xy_px, 64), 64)
    assert cut(person, 64, "ffhq", min_side_px=side - 1).image.shape == (64, 64, 3)
    with pytest.raises(Rejected, match="from x.png is .* px wide, at least .* are") as caught:
        cut(person, 64, "ffhq", min_side_px=side + 1)
    assert caught.value.reason == "too_small"


def test_a_face_is_needed_where_it_decides():
    grey = np.full((64, 96, 3), 90, np.uint8)
    with pytest.raises(Rejected, match="No face is found in x.png, so it cannot be") as caught:
        cut(grey, 64, "ffhq")
    assert caught.value.reason == "no_face"
    assert cut(grey, 64).image.shape == (64, 64, 3)


def test_photographs_are_read_as_they_are_and_turned_upright(tmp_path):
    image = places(20, 30)
    write_picture(tmp_path / "a.png", image)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(read_photo_file(path), image)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    PIL.Image.fromarray(image).save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    seen = read_photo_file(tmp_path / "turned.jpg")
    assert seen.shape == (30, 20, 3)
    assert np.abs(seen.astype(int) - np.rot90(image, -1)).mean() < 3


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"^Cannot read .*none.jpg: No such file or directory.$"):
        read_photo_file(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="Cannot read .*: Is a directory"):
        read_photo_file(tmp_path)
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="empty.jpg is empty; copy or download it again"):
        read_photo_file(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="text.jpg is no picture; it begins with b'no pictu'"):
        read_photo_file(tmp_path / "text.jpg")
    PIL.Image.fromarray(places(50, 60)).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut.jpg is (cut off|damaged)"):
        read_photo_file(tmp_path / "cut.jpg")
