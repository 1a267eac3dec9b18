"""A bundle by its folder or by the address of a server: one door for both.

What is behind it is loaded when it is first asked for, and once.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Protocol

from facegan.bundle import Manifest, read_manifest
from facegan.render.engine import (
    BundleMethods,
    Engine,
    EngineConfig,
    EngineName,
    Methods,
    TensorFlowEngine,
    load_engine,
)
from facegan.render.server_address import is_server


class OpenedBundle(Protocol):
    """A model that can be asked what it is, and run."""

    @property
    def manifest(self) -> Manifest:
        """What the model is."""

    @property
    def engine(self) -> Engine:
        """What runs its pictures."""

    @property
    def methods(self) -> Methods:
        """Its further methods."""

    def describe(self) -> dict[str, Any]:
        """What a plan tells of it, JSON values."""


class FolderBundle:
    """A bundle in a folder.

    Args:
        bundle_dir: The folder.
        config: Which runtime runs it.
        engine: One that is loaded already.
    """

    def __init__(
        self,
        bundle_dir: str | os.PathLike[str],
        config: EngineConfig | EngineName = "auto",
        engine: Engine | None = None,
    ) -> None:
        self._bundle_dir, self._config, self._given = bundle_dir, config, engine

    @functools.cached_property
    def manifest(self) -> Manifest:
        return read_manifest(self._bundle_dir) if self._given is None else self._given.manifest

    @functools.cached_property
    def engine(self) -> Engine:
        return self._given or load_engine(self._bundle_dir, self._config)

    @functools.cached_property
    def methods(self) -> Methods:
        # A SavedModel that runs pictures is not loaded a second time.
        engine = self.__dict__.get("engine")
        loaded = engine.owner if isinstance(engine, TensorFlowEngine) else None
        return BundleMethods(self._bundle_dir, self.manifest, loaded)

    def describe(self) -> dict[str, Any]:
        return {"bundle": str(self._bundle_dir), "model": self.manifest.model}


def open_bundle(
    bundle: str | os.PathLike[str],
    config: EngineConfig | EngineName = "auto",
    *,
    engine: Engine | None = None,
) -> OpenedBundle:
    """Opens a bundle.

    Args:
        bundle: Its folder, or the address of a server (``facegan.render.server_address``).
        config: What runs it, and how.
        engine: A loaded engine of the bundle, instead of what ``config`` says.

    Raises:
        BundleError: The server cannot be reached or has no such model. A folder is looked into
            only later.
        ConfigError: The address is wrong, or the settings are none for a server.
    """
    if engine is None and is_server(bundle):
        from facegan.render.remote import RemoteBundle

        if isinstance(config, str):
            config = EngineConfig(name=config)
        return RemoteBundle(os.fspath(bundle), config)
    return FolderBundle(bundle, config, engine)
