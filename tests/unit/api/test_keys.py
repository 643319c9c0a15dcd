"""The form of API keys."""

import pytest

from renderfleet_api.keys import looks_like_key, new_key


def test_keys_are_long_random_and_checked() -> None:
    keys = {new_key() for _ in range(200)}

    assert len(keys) == 200
    assert all(looks_like_key(key) and len(key) == 52 for key in keys)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: "sk_" + key[3:],
        lambda key: key[:10] + ("A" if key[10] != "A" else "B") + key[11:],
        lambda key: "",
    ],
    ids=["cut", "longer", "other prefix", "mistyped", "empty"],
)
def test_a_damaged_key_is_known_without_the_database(spoil: "object") -> None:
    assert callable(spoil)
    assert not looks_like_key(spoil(new_key()))
