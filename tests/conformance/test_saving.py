"""A saved layer comes back with the same outputs, as a Keras file and as a SavedModel."""

import keras
import tensorflow as tf
from keras import tree

from tests.conformance.cases import each_case
from tests.conformance.harness import as_model, assert_same, dtype_of, make_built, make_inputs


@each_case
def test_keras_file_round_trip(case, tmp_path):
    model = as_model(case, make_built(case))
    inputs = make_inputs(case)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    assert_same(case, model(inputs), again(inputs), factor=0)


@each_case
def test_saved_model_export(case, tmp_path):
    model = as_model(case, make_built(case))
    inputs = make_inputs(case)
    signature = tree.map_structure(
        lambda x: keras.InputSpec(shape=(None, *x.shape[1:]), dtype=dtype_of(x)), inputs
    )

    def serve(inputs):
        # A signature's outputs are one flat dict.
        return {str(i): value for i, value in enumerate(tree.flatten(model(inputs)))}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=[signature])
    archive.write_out(str(tmp_path / "exported"), verbose=False)
    # The name keeps the variables alive; the function alone would not.
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    served = loaded.serve(inputs)
    assert_same(case, model(inputs), [served[str(i)] for i in range(len(served))])
