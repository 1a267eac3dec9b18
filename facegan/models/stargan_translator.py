"""What is served of StarGAN v2: one net that finds styles and repaints pictures in them."""

from typing import Any

import keras

from facegan.errors import ConfigError
from facegan.models.fan import FAN, detail_masks, landmark_heatmaps
from facegan.models.stargan_v2 import MappingNetwork, StarGenerator, StarStyleEncoder


def find_details(
    generator: StarGenerator, image: Any, landmarks_xy_px: Any = None, fan: FAN | None = None
) -> dict[str, Any]:
    """The masks of the generator's high-pass skip; none for a generator without it.

    Args:
        generator: The generator.
        image: [B, H, W, 3] in [-1, 1], what is repainted.
        landmarks_xy_px: [B, 68, 2], pixels of it.
        fan: Finds the details instead; computes at 256 px.

    Raises:
        ConfigError: They are needed, and there are neither landmarks nor a network.
    """
    size = generator.config.image_size
    if not generator.config.high_pass:
        return {}
    if fan is None:
        if landmarks_xy_px is None:
            raise ConfigError(
                "The generator keeps details along the landmarks and is given none. Pass "
                "landmarks_xy_px (for a dataset: --set conditioning.landmarks=true), name a fan, "
                "or set recipe.generator.high_pass to 0."
            )
        return detail_masks(landmark_heatmaps(landmarks_xy_px, size), size)
    if size != 256:
        image = keras.ops.image.resize(
            image, (256, 256), interpolation="bilinear", data_format="channels_last"
        )
    return detail_masks(fan({"image": image}, training=False)["heatmaps"], size)


class StarTranslator(keras.Model):
    """The generator, and what gives it styles.

    Call input: {"source": [B, H, W, 3] in [-1, 1], "style": [B, style_size]} and, where the
    generator has the high-pass skip and there is no ``fan``, "landmarks_xy_px": [B, 68, 2] in
    pixels of the source.
    Call output: [B, H, W, 3] float32, around [-1, 1].
    """

    def __init__(
        self,
        generator: StarGenerator,
        mapping: MappingNetwork,
        style_encoder: StarStyleEncoder,
        fan: FAN | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            # Landmarks are places in pixels, which bfloat16 would round.
            **{
                "name": "star_translator",
                "dtype": generator.dtype_policy,
                "autocast": False,
                **kwargs,
            }
        )
        self.generator, self.mapping, self.style_encoder = generator, mapping, style_encoder
        self.fan = fan

    def call(self, inputs: Any, training: bool = False) -> Any:
        image = inputs["source"]
        details = find_details(self.generator, image, inputs.get("landmarks_xy_px"), self.fan)
        given = {"image": image, "style": inputs["style"], **details}
        return self.generator(given, training=training)

    def encode_style(self, inputs: Any) -> Any:
        """[B, style_size] of {"image": [B, H, W, 3] a reference, "domain": [B]}."""
        return self.style_encoder(inputs, training=False)

    def map_style(self, inputs: Any) -> Any:
        """[B, style_size] of {"latent": [B, latent_size] from N(0, 1), "domain": [B]}."""
        return self.mapping(inputs, training=False)
