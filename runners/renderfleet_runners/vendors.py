"""From a Task's ProviderAccess to an adapter: the key is read from its mounted file, at the last moment."""

from pathlib import Path

from renderfleet_crds.contract import VENDOR_KEY_DIR, ErrorCategory, ProviderAccess
from renderfleet_providers.ports import Adapter
from renderfleet_providers.registry import connect

from .errors import OwnFault, StageError
from .logs import never_log


class KeyMissing(StageError):
    """The Secret is not mounted or empty; the operator can tell the administrator which."""

    category = ErrorCategory.CREDENTIAL


def adapter_for(access: ProviderAccess | None, timeout_seconds: float) -> Adapter:
    """An adapter for the account. Raises KeyMissing, or OwnFault when the task names no provider or an unknown vendor."""
    if access is None:
        raise OwnFault("provider_not_given", "the task names no provider")
    file = Path(VENDOR_KEY_DIR) / access.key_file
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        key = ""
    if not key:
        raise KeyMissing("key_missing", f"there is no key for provider {access.name}: its Secret is missing or empty")
    never_log(key)
    try:
        return connect(access.vendor.value, access.base_url, key, access.options, timeout_seconds)
    except LookupError as unknown:
        raise OwnFault("vendor_unknown", f"this runner has no adapter for {access.vendor.value}") from unknown
