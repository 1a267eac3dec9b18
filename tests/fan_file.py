"""Writes the weights of a FAN as ``load_fan`` reads them."""

import numpy as np


def save_fan(net, path):
    """Each array under its variable's path, without the net's own name."""
    np.savez(path, **{v.path.partition("/")[2]: np.asarray(v) for v in net.variables})
