"""A bundle of two domains whose networks are plain functions, so that the right answer is known.

A style is a colour: a reference's mean colour, or the tanh of the latent's first three numbers; the
second domain's are darker by half. A picture is painted in the mean of its own colours and the
style's.
"""

import tensorflow as tf

from facegan.bundle import MethodSpec, TensorSpec
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.face.conditioning import DomainConditioningConfig, encode_conditioning
from tests.toy_bundle import image_spec

DOMAINS = ("cat", "dog")


class Puppet:
    """The functions."""

    def __call__(self, inputs):
        return 0.5 * (inputs["source"] + inputs["style"][:, None, None, :])

    def encode_style(self, inputs):
        return self._darken(tf.reduce_mean(inputs["image"], axis=(1, 2)), inputs["domain"])

    def map_style(self, inputs):
        return self._darken(tf.tanh(inputs["latent"][:, :3]), inputs["domain"])

    def _darken(self, colour, domain):
        return colour - 0.5 * tf.cast(domain, tf.float32)[:, None]


def export_domain_puppet(path, *, size=32, align="none", domains=DOMAINS):
    """Writes the bundle."""
    style = TensorSpec(name="style", shape=(None, 3), value_range=None)
    domain = TensorSpec(name="domain", shape=(None,), dtype="int32", value_range=(0.0, 1.0))
    latent = TensorSpec(name="latent", shape=(None, 4), value_range=None)
    image = image_spec("image", size)
    spec = ServingSpec(
        model=Puppet(),
        inputs=(image_spec("source", size), style),
        outputs=(image,),
        methods={
            "encode_style": MethodSpec(inputs=(image, domain), outputs=(style,)),
            "map_style": MethodSpec(inputs=(latent, domain), outputs=(style,)),
        },
    )
    config = DomainConditioningConfig(size=size, domains=domains, align=align)
    export_bundle(
        path,
        spec,
        model_name="puppet",
        image_size=size,
        conditioning=encode_conditioning(config),
    )
    return path
