import pickle

from facegan.errors import DataError
from facegan.preparation.items import Rejected, drop_unused


def test_a_rejection_keeps_its_reason_through_pickling():
    error = pickle.loads(pickle.dumps(Rejected("empty", "a.png holds nothing.")))
    assert isinstance(error, DataError)
    assert (error.reason, str(error)) == ("empty", "a.png holds nothing.")


def test_a_fingerprint_tells_new_settings_only_where_they_are_used():
    assert drop_unused({"size": 8, "new": False}, new=False) == {"size": 8}
    assert drop_unused({"size": 8, "new": True}, new=False) == {"size": 8, "new": True}
