from renderfleet_cli.tables import renders_table, text_table
from renderfleet_crds.phases import Phase

from .builders import NOW, ago, render


def test_a_table_is_as_wide_as_what_is_in_it_and_cuts_nothing_off() -> None:
    shown = text_table(["NAME", "COUNT", "NOTE"], [["a-very-long-name-indeed", 3, ""], ["b", 12, "x y"]])

    assert shown.splitlines() == [
        "NAME                      COUNT   NOTE",
        "a-very-long-name-indeed       3   -",
        "b                            12   x y",
    ]


def test_the_list_shows_what_kubectl_shows() -> None:
    one = render(phase=Phase.RUNNING, reason="Started", stage="synthesize", progress=40, attempt=1, created_at=ago(75))

    shown = renders_table([one], NOW)

    assert shown.splitlines() == [
        "KIND       NAME       PHASE     REASON    STAGE        PROGRESS   ATTEMPT   AGE",
        "VoiceJob   greeting   Running   Started   synthesize       40 %         1   75s",
    ]


def test_wide_adds_place_cost_and_message() -> None:
    one = render(position=3, eta_seconds=130, actual_micros=31_500, message="one\ntwo", created_at=ago(1))

    head, row = renders_table([one], NOW, wide=True, namespaces=True).splitlines()

    assert head.split() == [
        "NAMESPACE", "KIND", "NAME", "PHASE", "REASON", "STAGE", "PROGRESS", "ATTEMPT", "AGE",
        "PROVIDER", "POSITION", "ETA", "COST", "ID", "MESSAGE",
    ]  # fmt: skip
    assert row.startswith("rf-acme ")
    assert "2m10s" in row and "0.0315 USD" in row and row.endswith("one two")


def test_what_is_about_to_happen_is_in_the_phase() -> None:
    going = render(phase=Phase.FAILED, deleting_since=ago(5))
    again = render(phase=Phase.FAILED, redrive_asked=True)

    shown = renders_table([going, again], NOW)

    assert "Deleting" in shown and "Failed, retry asked" in shown
