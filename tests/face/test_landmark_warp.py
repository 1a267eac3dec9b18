import numpy as np

from facegan.face.landmark_warp import bend_to_landmarks
from facegan.face.landmarks import MEAN_SHAPE

SIZE = 128


def marked(points):
    """Black, with a white dot of 5x5 on each point."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for x, y in np.rint(points).astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    return image


def face(x=30.0, y=34.0, side=60.0):
    return MEAN_SHAPE * side + (x, y)


def brightest(image, near, reach=8):
    """The centre of what is bright around a place, xy."""
    x, y = np.rint(near).astype(int)
    part = image[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.array([(part * columns).sum(), (part * rows).sum()]) / part.sum() + (x, y)


def test_landmarks_that_stay_leave_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bend_to_landmarks(image, face(), face()), image)


def test_a_shift_moves_everything():
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    out = bend_to_landmarks(image, face(), face() + (8.0, -4.0))
    np.testing.assert_array_equal(out[:-4, 8:], image[4:, :-8])
    # The outermost pixels go on where nothing is known.
    np.testing.assert_array_equal(out[:-4, :8], np.repeat(image[4:, :1], 8, axis=1))


def test_a_part_goes_where_its_landmarks_go_and_the_border_stays():
    start, goal = face(), face()
    goal[17:22] -= (0.0, 6.0)  # the right brow is raised
    image = marked(start[[19]])
    image[-1] = 200
    out = bend_to_landmarks(image, start, goal)
    assert np.abs(brightest(out, goal[19]) - goal[19]).max() < 1.2
    np.testing.assert_allclose(out[-1], image[-1], atol=8)


def test_every_landmark_arrives():
    start = face()
    goal = face(26.0, 30.0, 66.0)
    goal[48:68] += 0.15 * (goal[48:68] - goal[48:68].mean(axis=0)) + (0, 2)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for index in (8, 30, 36, 45, 48, 54):
        image[:] = 0
        image += marked(start[[index]])
        out = bend_to_landmarks(image, start, goal)
        assert np.abs(brightest(out, goal[index]) - goal[index]).max() < 1.2
