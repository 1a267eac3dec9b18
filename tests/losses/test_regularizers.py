import numpy as np

from facegan.losses.regularizers import kl_loss


def test_the_standard_normal_costs_nothing():
    assert float(kl_loss(np.zeros((2, 3)), np.zeros((2, 3)))) == 0


def test_by_hand():
    mean = np.array([[1.0, 2.0], [0.0, 0.0]])
    log_variance = np.array([[0.0, 0.0], [np.log(4.0), 0.0]])
    # (1 + 4) / 2, and (4 - 1 - log 4) / 2.
    expected = [2.5, (3 - np.log(4.0)) / 2]
    np.testing.assert_allclose(kl_loss(mean, log_variance, reduce=False), expected, rtol=1e-6)
    np.testing.assert_allclose(kl_loss(mean, log_variance), np.mean(expected), rtol=1e-6)
