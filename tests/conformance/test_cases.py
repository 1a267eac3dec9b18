"""Every class that can be saved stands in the list of cases."""

import importlib
import pkgutil

import keras

import facegan.layers
import facegan.models
from tests.conformance.cases import CASES


def test_every_registered_class_has_a_case():
    for package in (facegan.layers, facegan.models):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    registered = {
        cls
        for cls in keras.saving.get_custom_objects().values()
        if cls.__module__.startswith(("facegan.layers.", "facegan.models."))
    }
    tested = {type(case.make()) for case in CASES}
    missing = {cls.__name__ for cls in registered - tested}
    assert not missing, f"add a case to tests/conformance/cases.py for {sorted(missing)}"


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
