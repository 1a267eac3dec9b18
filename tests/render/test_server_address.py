import pathlib

import pytest

from facegan.errors import ConfigError
from facegan.render.server_address import is_server, parse_server


@pytest.mark.parametrize(
    "url, scheme, host, port, model, version",
    [
        ("grpc://host:8500/anna", "grpc", "host", 8500, "anna", None),
        ("grpc://10.0.0.1:8500/anna/versions/3", "grpc", "10.0.0.1", 8500, "anna", 3),
        ("http://host:8501/anna/", "http", "host", 8501, "anna", None),
        ("http://host/anna", "http", "host", 80, "anna", None),
        ("https://host/anna/versions/12", "https", "host", 443, "anna", 12),
        ("http://host:8501/v1/models/anna/versions/2", "http", "host", 8501, "anna", 2),
        ("grpc://[::1]:8500/a%20b", "grpc", "::1", 8500, "a b", None),
    ],
)
def test_addresses_are_taken_apart(url, scheme, host, port, model, version):
    assert is_server(url)
    found = parse_server(url)
    assert (found.scheme, found.host, found.port) == (scheme, host, port)
    assert (found.model, found.version) == (model, version)
    assert parse_server(str(found)) == found


@pytest.mark.parametrize(
    "url, reason",
    [
        ("anna", "no address of a server"),
        ("ftp://host:1/anna", "no address of a server"),
        ("grpc://host/anna", "names no port"),
        ("grpc://:8500/anna", "names no host"),
        ("grpc://host:port/anna", "no such address"),
        ("grpc://host:99999/anna", "no such address"),
        ("grpc://host:8500", "names no model"),
        ("grpc://host:8500/", "names no model"),
        ("grpc://host:8500/anna/3", "names no model"),
        ("grpc://host:8500/anna/versions/x", "names no model"),
        ("http://host:8501/anna?x=1", "more than host, port and model"),
        ("http://me:secret@host:8501/anna", "more than host, port and model"),
        ("http://host:8501/anna:predict", "names no model"),
    ],
)
def test_what_is_no_address_is_refused(url, reason):
    with pytest.raises(ConfigError, match=f"{reason}.*grpc://host:8500/model"):
        parse_server(url)


def test_folders_are_no_servers():
    assert not is_server("bundles/anna")
    assert not is_server(pathlib.Path("http://host/anna"))
