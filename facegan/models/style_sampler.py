"""What is served of StyleGAN2: one net from noise to styles, to the layers' scales, to a picture.

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; the
measure of channels after Collins et al., "Editing in Style: Uncovering the Local Semantics of
GANs", CVPR 2020, section 3.2.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from facegan.models.stylegan2 import StyleGAN2Synthesis, StyleMapping, repeat_w


class StyleSampler(keras.Model):
    """The synthesis net, with what finds and changes its styles. Noise is always the stored one.

    Call input: {"w": [B, num_styles, style_size]}.
    Call output: [B, H, W, 3] float32, around [-1, 1].

    Args:
        synthesis: A built one.
        mapping: A built one.
        cluster_size: Height and width of the feature maps that are clustered, at most the
            picture's.
    """

    def __init__(
        self,
        synthesis: StyleGAN2Synthesis,
        mapping: StyleMapping,
        cluster_size: int = 32,
        **kwargs: Any,
    ):
        super().__init__(
            **{
                "name": "style_sampler",
                "dtype": synthesis.dtype_policy,
                "autocast": False,
                **kwargs,
            }
        )
        self.synthesis, self.mapping = synthesis, mapping
        self.cluster_size = min(cluster_size, synthesis.config.image_size)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.synthesis(inputs, noise="const")

    def map_style(self, inputs: Any) -> Any:
        """[B, num_styles, style_size] of {"latent": [B, latent_size], "truncation": [B]}."""
        w = self.mapping({"latent": inputs["latent"]}, truncation=inputs["truncation"][:, None])
        return repeat_w(w, self.synthesis.config.num_styles)

    def find_scales(self, inputs: Any) -> dict[str, Any]:
        """Layer -> [B, C] float32, from coarse to fine, of {"w": as the call has it}."""
        styles = self.synthesis.styles_of(inputs["w"])
        return {name: ops.cast(style, "float32") for name, style in styles.items()}

    def paint_scales(self, inputs: Any) -> Any:
        """A picture, as the call gives it, of scales as ``find_scales`` gives them."""
        dtype = self.synthesis.compute_dtype
        styles = {name: ops.cast(style, dtype) for name, style in inputs.items()}
        return self.synthesis.paint_styles(styles, noise="const")

    def trace_features(self, inputs: Any) -> Any:
        """[B, S, S, C] float32, S the ``cluster_size``, of {"w": as the call has it}."""
        return ops.cast(self._trace(inputs["w"])[f"rgb_{self.cluster_size}"], "float32")

    def weigh_channels(self, inputs: Any) -> dict[str, Any]:
        """How strong each channel that a layer scales is in each cluster.

        Args:
            inputs: {"w": as the call has it, "membership": [B, S, S, K], how far each pixel belongs
                to each of K clusters}.

        Returns:
            Layer -> [B, 2, K, C] float32: the means over the pixels of x U and of x^2 U, for the
            feature x and the membership U.
        """
        membership = ops.cast(inputs["membership"], "float32")
        found = {}
        for name, x in self._trace(inputs["w"]).items():
            batch, height, width, channels = ops.shape(x)
            pixels = ops.reshape(ops.cast(x, "float32"), (batch, height * width, channels))
            shares = self._fit(membership, height)
            shares = ops.reshape(shares, (batch, height * width, -1))
            shares = ops.transpose(shares, (0, 2, 1)) / (height * width)
            means = [ops.matmul(shares, pixels), ops.matmul(shares, ops.square(pixels))]
            found[name] = ops.stack(means, axis=1)
        return found

    def _trace(self, w: Any) -> Mapping[str, Any]:
        """Layer -> the features [B, H, W, C] whose channels its style scales."""
        synthesis = self.synthesis
        styles = synthesis.styles_of(w)
        _, features = synthesis.trace_styles(styles, noise="const")
        const = ops.cast(synthesis.const, synthesis.compute_dtype)
        first = ops.tile(const[None], (ops.shape(w)[0], 1, 1, 1))
        given: dict[str, Any] = {}
        for name in styles:
            given[name] = first
            first = features.get(name, first)
        return given

    def _fit(self, membership: Any, size: int) -> Any:
        """The membership at another size: the mean over pixels, or each of them repeated."""
        if size >= self.cluster_size:
            factor = size // self.cluster_size
            return ops.repeat(ops.repeat(membership, factor, axis=1), factor, axis=2)
        factor = self.cluster_size // size
        return ops.average_pool(membership, factor, factor, data_format="channels_last")


def scale_widths(synthesis: StyleGAN2Synthesis) -> dict[str, int]:
    """Layer -> how many channels its style scales, from coarse to fine."""
    return {
        painter.name: shape[-1]
        for painter, shape in zip(synthesis.painters, synthesis.shapes_in, strict=True)
    }
