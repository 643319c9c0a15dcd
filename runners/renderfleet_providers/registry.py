"""Which file speaks to which vendor: the one named like it.

A new vendor is one entry in `renderfleet_crds.contract.Vendor` and one file here with a class `ADAPTER`.
Files are loaded when they are first asked for: the openai package alone takes a second.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from .ports import Adapter


def adapter_class(vendor: str) -> type[Adapter]:
    """The adapter of a vendor. Raises LookupError for a vendor we have no file for."""
    if not vendor.isidentifier():
        raise LookupError(f"{vendor!r} is no vendor's name")
    try:
        module = import_module(f"{__package__}.{vendor}")
    except ModuleNotFoundError as missing:
        if missing.name != f"{__package__}.{vendor}":
            raise
        raise LookupError(f"there is no adapter for vendor {vendor!r}") from missing
    try:
        return cast(type[Adapter], module.ADAPTER)
    except AttributeError:
        raise LookupError(f"{vendor!r} is no vendor's name") from None


def connect(
    vendor: str, base_url: str, api_key: str, options: Mapping[str, str] | None = None, timeout_seconds: float = 300
) -> Adapter:
    """An adapter ready for use with one account; close it with `aclose()`. Raises LookupError as `adapter_class`."""
    return adapter_class(vendor)(base_url, api_key, options or {}, timeout_seconds)
