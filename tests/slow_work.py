"""Work on items that says itself what is to go wrong; importable by child processes."""

import dataclasses
import os
import signal
import time

import numpy as np

from facegan.preparation.items import LeftOut, Outcome, Rejected


@dataclasses.dataclass(frozen=True)
class SlowWork:
    """Does to an item what its data says: sleep, die, reject, fail, or make records."""

    size: int = 3

    def __call__(self, item):
        if "sleep" in item.data:
            time.sleep(item.data["sleep"])
        if "die" in item.data:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "reject" in item.data:
            raise Rejected("rejected", f"{item.key} is not wanted.")
        if "fail" in item.data:
            raise ZeroDivisionError(item.key)
        record = {
            "name": item.key,
            "number": len(item.key),
            "data": item.key.encode(),
            "pictures": [b"one", b"", b"three"],
            "array": np.arange(self.size, dtype=np.float32),
        }
        left_out = (LeftOut(f"{item.key}/b", "extra", "A second file."),) * item.data.get(
            "extra", 0
        )
        return Outcome(((item.key, record),), left_out, {"made": 1})

    def fingerprint(self):
        return {"size": self.size}
