"""Addresses of served models: ``grpc://host:8500/anna``, ``http://host:8501/anna/versions/3``."""

from __future__ import annotations

import dataclasses
import os
import re
import urllib.parse
from typing import Literal

from facegan.errors import ConfigError

Scheme = Literal["grpc", "http", "https"]

_EXAMPLE = (
    "Write it as grpc://host:8500/model or http://host:8501/model, with /versions/N if wanted."
)
# TensorFlow Serving's own name of a model's place, which is often what is at hand to be pasted.
_API_PREFIX = "/v1/models/"
_PLACE = re.compile(r"(?P<model>[^/:?#]+)(?:/versions/(?P<version>\d+))?/?")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServerAddress:
    """Where a model is served.

    Attributes:
        scheme: How one talks to the server.
        host: Its name or number.
        port: Its port.
        model: What the server calls the model.
        version: Which version; None takes the one that the server gives.
    """

    scheme: Scheme
    host: str
    port: int
    model: str
    version: int | None = None

    @property
    def target(self) -> str:
        """Host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        version = "" if self.version is None else f"/versions/{self.version}"
        return f"{self.scheme}://{self.target}/{urllib.parse.quote(self.model)}{version}"


def is_server(bundle: str | os.PathLike[str]) -> bool:
    """Whether this names a server and no folder."""
    return isinstance(bundle, str) and "://" in bundle


def parse_server(url: str) -> ServerAddress:
    """Takes the address of a served model apart.

    Args:
        url: ``grpc://host:port/model`` or ``http(s)://host[:port]/model``, then, if wanted,
            ``/versions/N``.

    Raises:
        ConfigError: It is no such address.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("grpc", "http", "https"):
        raise ConfigError(f"{url!r} is no address of a server. {_EXAMPLE}")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"The server {url!r} has no such address: {error}. {_EXAMPLE}") from error
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"The server {url!r} has more than host, port and model. {_EXAMPLE}")
    if not host:
        raise ConfigError(f"The server {url!r} names no host. {_EXAMPLE}")
    if port is None:
        if scheme == "grpc":
            raise ConfigError(f"The server {url!r} names no port. {_EXAMPLE}")
        port = 443 if scheme == "https" else 80
    place = _PLACE.fullmatch(parts.path.removeprefix(_API_PREFIX).removeprefix("/"))
    if place is None:
        raise ConfigError(f"The server {url!r} names no model that it serves. {_EXAMPLE}")
    version = place["version"]
    return ServerAddress(
        scheme=scheme,  # type: ignore[arg-type]  # compared above
        host=host,
        port=port,
        model=urllib.parse.unquote(place["model"]),
        version=None if version is None else int(version),
    )
