"""What trials of one story have in common, and what they must not."""

from renderfleet_faults.scenarios import wish
from renderfleet_faults.traffic import token
from renderfleet_standin.openai_api.script import write_script


def test_scripts_differ_in_words_and_not_in_length() -> None:
    scripts = {write_script(wish(token(letter, number))) for letter in "cm" for number in range(1, 300)}

    assert len(scripts) == 2 * 299
    assert len({len(one) for one in scripts}) == 1
