import pickle

from facegan.errors import DataError
from facegan.preparation.items import Rejected


def test_a_rejection_keeps_its_reason_through_pickling():
    error = pickle.loads(pickle.dumps(Rejected("empty", "a.png holds nothing.")))
    assert isinstance(error, DataError)
    assert (error.reason, str(error)) == ("empty", "a.png holds nothing.")
