"""Spectral norms at the end of their power iterations."""

import numpy as np

from facegan.layers.spectral import SpectralConv2D


def settle(*nets):
    """Gives every spectral norm of built nets the vector that it converges to."""
    for net in nets:
        for layer in net._flatten_layers():
            if isinstance(layer, SpectralConv2D):
                matrix = np.asarray(layer.kernel, np.float64).reshape(-1, layer.filters)
                layer.singular_vector.assign(np.linalg.svd(matrix, full_matrices=False)[0][:, 0])
