"""Faces with maps, and bundles that are plain functions of a layout.

One painter shows the colour map that it is given; another does, and shows who it is beside it. A
third remembers pictures: it shows that of the person it is asked for, by whatever map.
"""

import numpy as np
import tensorflow as tf

from facegan.bundle import TensorSpec
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.datasets.pipeline import read_records
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.face.conditioning import MaskConditioningConfig, encode_conditioning
from facegan.face.labels import CELEBAMASK19
from facegan.face.parsing import ParserConfig
from facegan.image import decode_picture, to_float, write_image
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from facegan.samples import sample_portrait
from tests.toy_bundle import image_spec

SIZE = 64


def build_face_dataset(folder):
    """Three aligned faces of two people in the split "test", with maps and descriptors."""
    people = [sample_portrait("collins"), sample_portrait("hopper")]
    (folder / "raw" / "test").mkdir(parents=True)
    for number, picture in enumerate([*people, people[1][:, ::-1]]):
        write_image(folder / "raw" / "test" / f"{number}.png", np.ascontiguousarray(picture))
    config = ImageFolderConfig(
        size=SIZE, align="ffhq", parser=ParserConfig(size=SIZE), identity=True
    )
    builder = Builder(
        data_dir=folder / "data",
        config=find_config(Builder, config),
        source=folder / "raw",
        workers=WorkersConfig(processes=0),
    )
    return prepare_items(builder)["dataset_dir"]


def show_layout(inputs):
    """[B, S, S, 3]: the colours of groups that do not overlap, and black."""
    return tf.einsum("bhwg,bgc->bhwc", inputs["masks"], inputs["colours"] + 1.0) - 1.0


def show_person(inputs):
    """[B, S, S, 3]: the same, but where no group lies ``_light`` of the person."""
    masks, colours = inputs["masks"], inputs["colours"]
    painted = tf.einsum("bhwg,bgc->bhwc", masks, colours)
    nothing = 1.0 - tf.reduce_sum(masks, axis=-1, keepdims=True)
    return painted + nothing * _light(colours, inputs["identity"])[:, None, None, :]


def paint_person(label_map, colours, identity):
    """What ``show_person`` shows of ids [S, S], in floats."""
    return np.concatenate([_light(colours[None], identity[None]), colours])[label_map]


def _light(colours, identity):
    # Nets let colours show where they do not belong: half of the third group's.
    return identity[:, :3] + 0.5 * colours[:, 2]


def remember(dataset_dir, split="test"):
    """A function that shows the picture of the person who is nearest to the one asked for."""
    records = list(read_records(dataset_dir, split).as_numpy_iterator())
    pictures = np.stack([to_float(decode_picture(record["image"])) for record in records])
    known = np.stack([record["descriptor"] for record in records])

    def paint(inputs):
        apart = inputs["identity"][:, None] - tf.constant(known)
        return tf.gather(tf.constant(pictures), tf.argmin(tf.reduce_sum(apart**2, -1), axis=1))

    return paint


def export_painter(path, paint=show_layout, *, size=SIZE, identity=False, **conditioning):
    """Writes the bundle of a function; ``conditioning`` are settings of what it is shown."""
    config = MaskConditioningConfig(size=size, identity=identity, **conditioning)
    groups = config.num_groups
    inputs = (
        TensorSpec(name="masks", shape=(None, size, size, groups), value_range=(0.0, 1.0)),
        TensorSpec(name="colours", shape=(None, groups, 3)),
    )
    if identity:
        inputs += (TensorSpec(name="identity", shape=(None, 128), value_range=None),)
    spec = ServingSpec(model=paint, inputs=inputs, outputs=(image_spec("image", size),))
    export_bundle(
        path,
        spec,
        model_name="puppet",
        image_size=size,
        conditioning=encode_conditioning(config),
    )
    return path


def export_parser_puppet(path):
    """Writes the bundle of a face parser that calls all bright pixels skin."""
    labels = TensorSpec(
        name="label_map", shape=(None, SIZE, SIZE), dtype="uint8", value_range=(0, 18)
    )

    def parse(inputs):
        bright = tf.reduce_mean(inputs["image"], axis=-1) > 0
        return tf.cast(bright, tf.uint8) * CELEBAMASK19.index("skin")

    spec = ServingSpec(model=parse, inputs=(image_spec("image", SIZE),), outputs=(labels,))
    export_bundle(path, spec, model_name="puppet", image_size=SIZE, labels=CELEBAMASK19)
    return path
