"""The OpenAI side, seen through the vendor's own package."""

import base64
import io
import itertools
from collections.abc import Callable
from datetime import date
from typing import Any

import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse
from openai.types.responses import ResponseCompletedEvent, ResponseTextDeltaEvent
from PIL import Image, ImageChops

from renderfleet_standin.openai_api.routes import duration
from renderfleet_standin.openai_api.script import topic_of, write_script

from .conftest import Server

MODEL = "gpt-image-2.6-flare"
FACE = "a friendly guide"


def client_of(server: Server, **options: Any) -> openai.OpenAI:
    chosen = {"api_key": "sk-standin", "max_retries": 0, **options}
    return openai.OpenAI(base_url=f"{server.url}/openai/v1", **chosen)


@pytest.fixture
def client(standin: Server) -> openai.OpenAI:
    return client_of(standin)


def pictures(response: ImagesResponse) -> list[Image.Image]:
    assert response.data is not None
    return [Image.open(io.BytesIO(base64.b64decode(one.b64_json or ""))) for one in response.data]


def refusal(call: Callable[[], object]) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    return caught.value


def code_of(problem: openai.APIStatusError) -> tuple[int, Any, Any]:
    assert isinstance(problem.body, dict)
    return problem.status_code, problem.body["code"], problem.body["param"]


def test_four_previews_are_four_people(client: openai.OpenAI) -> None:
    made = pictures(client.images.generate(model=MODEL, prompt=FACE, n=4))

    assert [picture.size for picture in made] == [(1024, 1024)] * 4
    for one, other in itertools.pairwise(made):
        assert ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is not None


def test_the_same_prompt_gives_the_same_picture(client: openai.OpenAI) -> None:
    first = client.images.generate(model=MODEL, prompt=FACE)
    again = client.images.generate(model=MODEL, prompt=FACE)

    assert first.data == again.data


@pytest.mark.parametrize(
    ("size", "output_format", "pillow_name"),
    [("1536x1024", "png", "PNG"), ("1024x1536", "jpeg", "JPEG"), ("1040x640", "webp", "WEBP"), ("auto", "png", "PNG")],
)
def test_pictures_have_the_asked_size_and_format(
    client: openai.OpenAI, size: str, output_format: Any, pillow_name: str
) -> None:
    response = client.images.generate(model=MODEL, prompt=FACE, size=size, output_format=output_format)

    picture = pictures(response)[0]
    assert picture.format == pillow_name
    assert f"{picture.width}x{picture.height}" == ("1024x1024" if size == "auto" else size) == response.size


def test_a_transparent_background_is_empty_in_the_corners(client: openai.OpenAI) -> None:
    response = client.images.generate(model=MODEL, prompt=FACE, background="transparent")

    picture = pictures(response)[0]
    assert picture.mode == "RGBA"
    assert picture.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert picture.getpixel((512, 512))[3] == 255  # type: ignore[index]


def test_usage_grows_with_quality_and_count(client: openai.OpenAI) -> None:
    low = client.images.generate(model=MODEL, prompt=FACE, quality="low").usage
    two_high = client.images.generate(model=MODEL, prompt=FACE, quality="high", n=2).usage

    assert low is not None and low.output_tokens == 272
    assert two_high is not None and two_high.output_tokens == 2 * 4160
    assert two_high.total_tokens == two_high.input_tokens + two_high.output_tokens


def test_a_stream_ends_with_the_whole_picture(client: openai.OpenAI) -> None:
    events = list(client.images.generate(model=MODEL, prompt=FACE, stream=True, partial_images=2))

    partial, last = events[:-1], events[-1]
    assert [event.partial_image_index for event in partial if isinstance(event, ImageGenPartialImageEvent)] == [0, 1]
    assert isinstance(last, ImageGenCompletedEvent)
    assert Image.open(io.BytesIO(base64.b64decode(last.b64_json))).size == (1024, 1024)
    assert last.usage.output_tokens == 1056 + 200


def test_an_edit_keeps_the_person_and_changes_the_colours(client: openai.OpenAI, face: bytes) -> None:
    files = [("face.png", face, "image/png"), ("other.png", face, "image/png")]
    response = client.images.edit(model=MODEL, prompt="in blue", image=files, size="1024x1024")

    before = Image.open(io.BytesIO(face)).convert("RGB").resize((1024, 1024))
    after = pictures(response)[0].convert("RGB")
    assert after.size == (1024, 1024)
    assert ImageChops.difference(before, after).getbbox() is not None
    brightness = [picture.convert("HSV").getchannel("V").resize((64, 64)) for picture in (before, after)]
    by_difference = ImageChops.difference(*brightness).histogram()
    assert sum(by_difference[60:]) == 0, "light and shade are those of the picture handed in"


def test_an_edit_takes_json_with_data_urls(standin: Server, face: bytes) -> None:
    body = {
        "model": MODEL,
        "prompt": "x",
        "images": [{"image_url": f"data:image/png;base64,{base64.b64encode(face).decode()}"}],
    }
    with standin.http(headers={"authorization": "Bearer sk-standin"}) as http:
        answer = http.post("/openai/v1/images/edits", json=body)

    assert answer.status_code == 200
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] > 0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"prompt": None}, (400, "missing_required_parameter", "prompt"), id="no prompt"),
        pytest.param({"prompt": "x" * 32_001}, (400, "string_above_max_length", "prompt"), id="prompt too long"),
        pytest.param({"n": 11}, (400, "integer_above_max_value", "n"), id="too many"),
        pytest.param({"n": 0}, (400, "integer_below_min_value", "n"), id="none"),
        pytest.param({"n": "2"}, (400, "invalid_type", "n"), id="number as text"),
        pytest.param({"size": "100x100"}, (400, "invalid_value", "size"), id="not divisible by 16"),
        pytest.param({"size": "1600x400"}, (400, "invalid_value", "size"), id="too wide for its height"),
        pytest.param({"size": "4096x2160"}, (400, "invalid_value", "size"), id="edge too long"),
        pytest.param({"size": "3840x3840"}, (400, "invalid_value", "size"), id="too many pixels"),
        pytest.param({"size": "big"}, (400, "invalid_value", "size"), id="no size"),
        pytest.param({"model": "gpt-image-1.5", "size": "1040x640"}, (400, "invalid_value", "size"), id="free size of an old model"),
        pytest.param({"model": "gpt-image-2", "quality": "max"}, (400, "invalid_value", "quality"), id="quality of a newer model"),
        pytest.param({"quality": "hd"}, (400, "invalid_value", "quality"), id="quality of DALL-E"),
        pytest.param({"background": "transparent", "output_format": "jpeg"}, (400, "invalid_value", "background"), id="transparent jpeg"),
        pytest.param({"output_compression": 50}, (400, "invalid_value", "output_compression"), id="compressed png"),
        pytest.param({"response_format": "b64_json"}, (400, "unknown_parameter", "response_format"), id="field of DALL-E"),
        pytest.param({"style": "vivid"}, (400, "unknown_parameter", "style"), id="another field of DALL-E"),
        pytest.param({"model": "gpt-image-1"}, (404, "model_not_found", None), id="retired model"),
        pytest.param({"model": "no-such"}, (404, "model_not_found", None), id="unknown model"),
        pytest.param({"model": None}, (404, "model_not_found", None), id="no model means the retired DALL-E 2"),
    ],
)  # fmt: skip
def test_what_images_refuses(standin: Server, asked: dict[str, Any], expected: tuple[int, str, str | None]) -> None:
    body = {"model": MODEL, "prompt": FACE, **asked}
    with standin.http(headers={"authorization": "Bearer sk-standin"}) as http:
        answer = http.post("/openai/v1/images/generations", json={k: v for k, v in body.items() if v is not None})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == expected
    assert set(error) == {"message", "type", "param", "code"}
    assert standin.bills() == []


def test_a_mask_of_another_size_is_refused(client: openai.OpenAI, face: bytes) -> None:
    mask = io.BytesIO()
    Image.new("RGBA", (64, 64)).save(mask, "PNG")
    problem = refusal(
        lambda: client.images.edit(
            model=MODEL, prompt="x", image=("face.png", face), mask=("mask.png", mask.getvalue())
        )
    )

    assert code_of(problem) == (400, "invalid_mask", "mask")


def test_an_edit_of_something_else_is_refused(client: openai.OpenAI) -> None:
    problem = refusal(lambda: client.images.edit(model=MODEL, prompt="x", image=("face.png", b"GIF89a....")))

    assert code_of(problem) == (400, "invalid_image_file", "image")


def test_models_retire_on_their_day(standin_with: Callable[..., Server]) -> None:
    before = standin_with(today=date(2026, 11, 30))
    after = standin_with(today=date(2026, 12, 1), openai_retired_model_status=400)

    listed = {model.id: model.shutdown_date for model in client_of(before).models.list()}
    assert listed["gpt-image-1.5"] == "2026-12-01"
    assert listed["gpt-5-nano"] == "2026-12-11"
    assert listed[MODEL] is None
    assert "gpt-image-1" not in listed
    assert client_of(before).images.generate(model="gpt-image-1.5", prompt=FACE).data
    gone = refusal(lambda: client_of(after).images.generate(model="gpt-image-1.5", prompt=FACE))
    assert code_of(gone) == (400, "model_not_found", None)


def test_the_key_is_checked_before_the_body_and_quoted_masked(standin: Server) -> None:
    problem = refusal(lambda: client_of(standin, api_key="sk-wrong-key-0815").images.generate(prompt="", model="x"))

    assert code_of(problem) == (401, "invalid_api_key", None)
    assert "sk-wr*" in problem.message
    assert "sk-wrong-key-0815" not in problem.message


def test_every_answer_has_a_request_id_and_a_duration(client: openai.OpenAI, standin: Server) -> None:
    good = client.images.with_raw_response.generate(model=MODEL, prompt=FACE)
    bad = refusal(lambda: client.images.generate(model="no-such", prompt=FACE))

    assert good.headers["x-request-id"].startswith("req_")
    assert int(good.headers["openai-processing-ms"]) > 0
    assert bad.response.headers["x-request-id"].startswith("req_")
    assert standin.bills()[0]["request_id"] == good.headers["x-request-id"]


def test_images_per_minute_are_kept(standin_with: Callable[..., Server]) -> None:
    client = client_of(standin_with(openai_images_per_minute=5))
    client.images.generate(model=MODEL, prompt=FACE, n=4, quality="low")

    problem = refusal(lambda: client.images.generate(model=MODEL, prompt=FACE, n=2))
    client.images.generate(model=MODEL, prompt=FACE, n=1)

    assert code_of(problem) == (429, "rate_limit_exceeded", None)
    assert f"Rate limit reached for {MODEL}" in problem.message
    assert "on input-images per min: Limit 5, Used 4, Requested 2. Please try again in" in problem.message
    assert 50 <= int(problem.response.headers["retry-after"]) <= 60


def test_requests_per_minute_show_in_the_headers(standin_with: Callable[..., Server]) -> None:
    client = client_of(standin_with(openai_requests_per_minute=2))
    first = client.models.with_raw_response.list()
    for _ in range(2):
        last = client.responses.with_raw_response.create(model="gpt-6-luna", input="hello")
    problem = refusal(lambda: client.responses.create(model="gpt-6-luna", input="hello"))

    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert last.headers["x-ratelimit-remaining-requests"] == "0"
    assert last.headers["x-ratelimit-reset-requests"].endswith("s")
    assert code_of(problem) == (429, "rate_limit_exceeded", None)


def test_what_the_package_retries_by_itself_is_seen(standin: Server) -> None:
    standin.fault("openai", "500_server_error", times=2)
    client = openai.OpenAI(base_url=f"{standin.url}/openai/v1", api_key="sk-standin")
    client.responses.create(model="gpt-6-luna", input="hello")

    calls = standin.control("calls")["calls"]
    assert [call["status"] for call in calls] == [500, 500, 200]
    assert [call["stainless_retry_count"] for call in calls] == ["0", "1", "2"]
    assert [bill["stainless_retry_count"] for bill in standin.bills()] == ["2"]


def test_a_script_is_about_the_wish_and_always_the_same(client: openai.OpenAI) -> None:
    wish = "Write a short script about the harbour tour."
    first = client.responses.create(
        model="gpt-6-luna", input=wish, instructions="Speak warmly.", max_output_tokens=600, store=False
    )
    again = client.responses.create(model="gpt-6-luna", input=[{"role": "user", "content": wish}])

    assert first.status == "completed"
    assert "the harbour tour" in first.output_text
    assert first.output_text == again.output_text
    assert first.output[0].type == "reasoning"


def test_a_script_is_cut_at_the_asked_tokens(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-6-luna", input="the harbour", max_output_tokens=16)

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None and response.usage.output_tokens == 16


def test_a_script_may_come_word_by_word(client: openai.OpenAI, standin: Server) -> None:
    whole = client.responses.create(model="gpt-6-luna", input="the harbour")
    events = list(client.responses.create(model="gpt-6-luna", input="the harbour", stream=True))
    with client.responses.stream(model="gpt-6-luna", input="the harbour") as stream:
        gathered = stream.get_final_response()

    words = [event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)]
    assert len(words) > 20
    assert "".join(words) == gathered.output_text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert isinstance(events[-1], ResponseCompletedEvent)
    assert events[-1].response.usage == gathered.usage == whole.usage
    assert len(standin.bills()) == 3


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        (None, "response.completed"),
        ("200_refusal", "response.completed"),
        ("200_incomplete_max_output_tokens", "response.incomplete"),
        ("200_incomplete_content_filter", "response.incomplete"),
        ("200_failed_server_error", "response.failed"),
    ],
)
def test_a_stream_of_words_ends_as_the_whole_would(
    standin: Server, client: openai.OpenAI, fault: str | None, last: str
) -> None:
    if fault:
        standin.fault("openai", fault)
    events = list(client.responses.create(model="gpt-6-luna", input="the harbour", stream=True))

    assert events[-1].type == last
    assert any(event.type == "response.refusal.done" for event in events) is (fault == "200_refusal")


def test_chats_may_come_word_by_word(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "the harbour"}]
    whole = client.chat.completions.create(model="gpt-6-luna", messages=messages)
    chunks = list(
        client.chat.completions.create(
            model="gpt-6-luna", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    plain = list(client.chat.completions.create(model="gpt-6-luna", messages=messages, stream=True))

    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content
    assert [choice.finish_reason for chunk in plain[-1:] for choice in chunk.choices] == ["stop"]
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in plain)


def test_chat_completions_still_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="gpt-6-luna", messages=[{"role": "user", "content": "the harbour"}])
    cut = client.chat.completions.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": "the harbour"}], max_completion_tokens=5
    )

    assert "the harbour" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    assert cut.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("fault", "status", "seen"),
    [
        ("200_refusal", "completed", lambda r: r.output[-1].content[0].type == "refusal"),
        (
            "200_incomplete_max_output_tokens",
            "incomplete",
            lambda r: r.incomplete_details.reason == "max_output_tokens",
        ),
        ("200_incomplete_content_filter", "incomplete", lambda r: r.incomplete_details.reason == "content_filter"),
        ("200_failed_server_error", "failed", lambda r: r.error.code == "server_error" and r.output == []),
        ("200_failed_rate_limit_exceeded", "failed", lambda r: r.error.code == "rate_limit_exceeded"),
        ("200_failed_invalid_prompt", "failed", lambda r: r.error.code == "invalid_prompt"),
        ("200_empty_text", "completed", lambda r: r.output_text == ""),
    ],
)
def test_texts_that_go_wrong_with_a_200(
    standin: Server, client: openai.OpenAI, fault: str, status: str, seen: Callable[[Any], bool]
) -> None:
    standin.fault("openai", fault)
    response = client.responses.create(model="gpt-6-luna", input="the harbour")

    assert response.status == status
    assert seen(response)
    assert len(standin.bills()) == 1


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("200_no_b64_json", lambda data: data == [{}]),
        ("200_empty_data", lambda data: data == []),
        ("200_bad_base64", lambda data: "*" in data[0]["b64_json"]),
        ("200_not_a_picture", lambda data: base64.b64decode(data[0]["b64_json"]).startswith(b"this is not")),
        ("200_wrong_size", lambda data: Image.open(io.BytesIO(base64.b64decode(data[0]["b64_json"]))).size == (64, 64)),
    ],
)
def test_pictures_that_go_wrong_with_a_200(standin: Server, fault: str, seen: Callable[[Any], bool]) -> None:
    standin.fault("openai", fault)
    with standin.http(headers={"authorization": "Bearer sk-standin"}) as http:
        answer = http.post("/openai/v1/images/generations", json={"model": MODEL, "prompt": FACE})

    assert answer.status_code == 200
    assert seen(answer.json()["data"])
    assert len(standin.bills()) == 1


def test_a_stream_may_end_in_an_error_after_the_200(standin: Server, client: openai.OpenAI) -> None:
    standin.fault("openai", "200_stream_error")

    with pytest.raises(openai.APIError, match="could not be generated"):
        list(client.images.generate(model=MODEL, prompt=FACE, stream=True))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/openai/v1/images/generations", 405), ("POST", "/openai/v1/no/such", 404)],
)
def test_unknown_routes_answer_in_the_vendors_shape(standin: Server, method: str, path: str, status: int) -> None:
    with standin.http() as http:
        answer = http.request(method, path)

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("seconds", "text"), [(0.45, "450ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s")])
def test_durations_read_as_the_vendors(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("wish", "topic"),
    [
        ("Write a 20 second script about our new bakery. Keep it warm.", "our new bakery"),
        ("our new bakery", "our new bakery"),
        ("", "a small surprise"),
    ],
)
def test_the_topic_of_a_wish(wish: str, topic: str) -> None:
    assert topic_of(wish) == topic
    assert topic in write_script(wish)
