"""The way to a model's server: straight, or through the proxy that the environment names for it."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from urllib.request import getproxies

import h11
import httpx2

from omniperf.gateway.failures import CallError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Place:
    """A server or a proxy."""

    host: str
    port: int
    secure: bool


@dataclass(frozen=True, eq=False)
class Route:
    """Where an API is, and how it is reached.

    A proxy is asked for a `tunnel` to a secure server; an insecure one it asks itself, and is given the whole URL.
    """

    server: Place
    authority: bytes
    prefix: bytes  # of every target
    headers: tuple[tuple[bytes, bytes], ...] = ()  # of every call
    proxy: Place | None = None
    tunnel: h11.Request | None = None


@lru_cache(64)
def route_to(base_url: str) -> Route:
    """The way to the API at a URL. Raises CallError where it is through a proxy that there cannot be."""
    url = httpx2.URL(base_url)
    server, authority, path = _place(url), url.netloc, url.raw_path.rstrip(b"/")
    if not (named := _proxy_for(url.scheme, server)):
        return Route(server, authority, path)
    try:
        proxy = httpx2.URL(named if "://" in named else f"http://{named}")
        place = _place(proxy)
    except (httpx2.InvalidURL, KeyError):
        raise CallError("protocol", "the proxy that the environment names is no http or https URL") from None
    pair = f"{proxy.username}:{proxy.password}"
    headers = ((b"proxy-authorization", b"Basic " + base64.b64encode(pair.encode())),) if pair != ":" else ()
    if not server.secure:
        return Route(server, authority, b"http://" + authority + path, headers, place)
    host = f"[{server.host}]" if ":" in server.host else server.host
    target = f"{host}:{server.port}".encode()
    tunnel = h11.Request(method="CONNECT", target=target, headers=[(b"host", target), *headers])
    return Route(server, authority, path, (), place, tunnel)


def _place(url: httpx2.URL) -> Place:
    usual = _PORTS[url.scheme]  # KeyError: no scheme of ours
    return Place(url.raw_host.decode("ascii"), url.port or usual, url.scheme == "https")


def _proxy_for(scheme: str, server: Place) -> str:
    """The proxy's URL; "" where the environment names none for that server."""
    named = getproxies()
    spared = any(_names(entry.strip().lower(), server) for entry in named.get("no", "").split(","))
    return "" if spared else named.get(scheme) or named.get("all") or ""


def _names(entry: str, server: Place) -> bool:
    """Whether an entry of NO_PROXY names a server: by its domain or one above, its address or its network."""
    if entry == "*":
        return True
    with suppress(ValueError):
        return ip_address(server.host) in ip_network(entry.strip("[]"), strict=False)
    entry = entry.rpartition("://")[2].removesuffix(f":{server.port}").removeprefix("*")
    host = server.host.lower()
    return entry != "" and (host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}"))
