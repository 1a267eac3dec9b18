"""Writes networks as StyleGAN2-ADA's program pickles them, without it and without PyTorch."""

import collections
import io
import pickle
import sys
import types

from tests.torch_writer import Storage, Tensor, Writer


class Module:
    """A module as the authors' program pickles it: what it holds, and the text of its class."""

    def __init__(self, name, *, parameters=(), buffers=(), modules=(), unkept=(), **attributes):
        self.name = name
        self.state = {
            "training": False,
            "_parameters": collections.OrderedDict(parameters),
            "_buffers": collections.OrderedDict(buffers),
            "_non_persistent_buffers_set": set(unkept),
            "_backward_hooks": collections.OrderedDict(),
            "_forward_hooks": collections.OrderedDict(),
            "_modules": collections.OrderedDict(modules),
            **attributes,
        }


def make_layer(**arguments):
    """A module of PyTorch's own: an object of its class, with its attributes as the state."""
    layer = sys.modules["torch.nn.modules.linear"].Linear()
    layer.__dict__.update(Module("unused", **arguments).state)
    return layer


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor


class Constant:
    """What is pickled as the name of something in PyTorch."""

    def __init__(self, name):
        self.name = name


class PickleWriter(Writer):
    """Writes StyleGAN2-ADA's files, with modules of the names in them that hold only names."""

    def __init__(self, monkeypatch, source="raise SystemExit"):
        super().__init__(monkeypatch)
        self.source = source
        self.zipped = False
        names = {
            "torch_utils": (),
            "torch_utils.persistence": ("_reconstruct_persistent_obj",),
            "dnnlib": (),
            "dnnlib.util": (),
            "training": (),
            "training.augment": ("make_pipe",),
            "torch.storage": ("_load_from_bytes",),
            "torch.nn": (),
            "torch.nn.modules": (),
            "torch.nn.modules.linear": (),
            "torch._utils": ("_rebuild_tensor_v2", "_rebuild_parameter"),
        }
        for module, functions in names.items():
            made = types.ModuleType(module)
            for name in functions:
                setattr(made, name, self.function(module, name))
            monkeypatch.setitem(sys.modules, module, made)
        self.modules = sys.modules
        self.rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        self.EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
        sys.modules["dnnlib.util"].EasyDict = self.EasyDict
        self.Linear = type("Linear", (), {"__module__": "torch.nn.modules.linear"})
        sys.modules["torch.nn.modules.linear"].Linear = self.Linear
        self.torch.device = type("device", (), {"__module__": "torch"})

    @staticmethod
    def function(module, name):
        def function():
            pass

        function.__module__, function.__qualname__ = module, name
        return function

    def storage_bytes(self, storage):
        if not self.zipped:
            return self.legacy_bytes(storage)
        buffer = io.BytesIO()
        self.zip(buffer, storage)
        return buffer.getvalue()

    def dumps(self, node, protocol=3):
        writer, modules = self, self.modules
        buffer = io.BytesIO()

        class Pickler(pickle.Pickler):
            def reducer_override(self, value):
                if isinstance(value, Storage):
                    load = modules["torch.storage"]._load_from_bytes
                    return load, (writer.storage_bytes(value),)
                if isinstance(value, Tensor):
                    parts = (value.storage, value.offset, value.size, value.stride)
                    return writer.rebuild, (*parts, False, collections.OrderedDict())
                if isinstance(value, Parameter):
                    parts = (value.tensor, True, collections.OrderedDict())
                    return modules["torch._utils"]._rebuild_parameter, parts
                if isinstance(value, Module):
                    described = writer.EasyDict(
                        type="class",
                        version=6,
                        module_src=writer.source,
                        class_name=value.name,
                        state=value.state,
                    )
                    make = modules["torch_utils.persistence"]._reconstruct_persistent_obj
                    return make, (described,)
                if isinstance(value, Constant):
                    return writer.torch.device, (value.name,)
                return NotImplemented

        Pickler(buffer, protocol).dump(node)
        return buffer.getvalue()
