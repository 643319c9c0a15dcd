"""Say what a file's content credentials are worth, as one line of JSON: `state`, `signer`, `failures`.

Run as a script of its own under limits, by its path: the library is native code, and what it reads comes from outside.
It is told to ask nobody: no remote manifest is fetched, no certificate status is looked up. No trust list is consulted
either, so `Valid` says that the signature holds and fits the file, and `signer` is who the certificate says it is.
"""

import json
import sys

from c2pa import C2paError, Context, Reader

OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
UNTRUSTED = "signingCredential.untrusted"
"""Always there without a trust list, so it tells nothing."""


def look(mime_type: str, path: str) -> dict[str, object]:
    """What the library makes of it. Raises C2paError when it cannot read the manifest."""
    with open(path, "rb") as file, Reader(mime_type, file, context=Context.from_dict(OFFLINE)) as reader:  # noqa: PTH123
        told = json.loads(reader.json())
        state = reader.get_validation_state()
    active = told.get("manifests", {}).get(told.get("active_manifest"), {})
    results = told.get("validation_results", {}).get("activeManifest", {})
    codes = [str(one.get("code")) for one in results.get("failure", [])]
    return {
        "state": state,
        "signer": (active.get("signature_info") or {}).get("issuer"),
        "failures": [code for code in codes if code != UNTRUSTED],
    }


if __name__ == "__main__":
    try:
        seen = look(sys.argv[1], sys.argv[2])
    except C2paError as unreadable:
        seen = {"state": "Invalid", "signer": None, "failures": [type(unreadable).__name__.removeprefix("_C2pa")]}
    print(json.dumps(seen))
