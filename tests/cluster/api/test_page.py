"""The page for people: by HTTP for what it lets through, in a real browser for what it shows."""

import asyncio
import hashlib
import io
import subprocess
import uuid
from collections.abc import AsyncIterator
from importlib import resources as package_files
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image
from playwright.async_api import Browser, Page, Route, async_playwright
from tests.support.api import ADMIN_KEY, Api, Tenant, output
from tests.support.wire import ObjectStore

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_cluster import debian
from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDER_PROVIDER

SHOTS = REPOSITORY / "out/page"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    await asyncio.to_thread(debian.install, {"chromium": "chromium"})
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield running
        await running.close()


async def signed_in(browser: Browser, api: Api, key: str, *, width: int = 1100, dark: bool = False) -> Page:
    context = await browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
    )
    page = await context.new_page()
    page.set_default_timeout(30_000)
    await page.goto(f"{api.url}/")
    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Sign out").wait_for()
    return page


async def until(page: Page, expression: str) -> None:
    """Wait for a truth in the page. The page's own policy lets Playwright's waiting evaluate nothing but the first time."""
    async with asyncio.timeout(30):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.05)


async def shot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


async def test_jobs_are_live_filtered_and_explained(browser: Browser, api: Api, tenant: Tenant) -> None:
    page = await signed_in(browser, api, tenant.key)
    assert "No jobs yet" in await page.inner_text("#jobs")
    assert "renderfleet submit voice" in await page.inner_text("#jobs"), "an empty page says how to begin"
    await shot(page, "empty")

    job = await tenant.submit()
    row = page.locator(f"#job-{job['id']}")
    await row.get_by_text("Queued").wait_for()
    await tenant.report(job, "Running", stage="synthesize")
    await row.get_by_text("Running").wait_for()
    other = await tenant.submit("VideoRender")
    queue = {"position": 2, "etaSeconds": 30, "since": "2026-11-25T18:00:00Z"}
    await tenant.report(other, "Queued", reason="CircuitOpen", queue=queue)
    await page.get_by_text("place 2, in about 30 s").wait_for()
    await shot(page, "jobs")

    await page.get_by_label("Kind").select_option("VideoRender")
    await row.wait_for(state="detached")
    await page.wait_for_url("**/ui?kind=VideoRender*")
    await page.get_by_role("link", name=other["name"]).click()
    await page.wait_for_url(f"**/ui/jobs/{other['id']}")
    assert "nothing is sent there for a while" in await page.inner_text("#why")
    place = "Place 2 in the queue, since 25 Nov, 18:00:00 UTC, expected to start in about 30 s."
    assert await page.inner_text("#place") == place
    await tenant.report(other, "Held", reason="OutcomeUnknown")
    await page.get_by_text("pay perhaps twice").wait_for()
    await shot(page, "held")
    assert await page.locator("dt", has_text="stitch").locator("+ dd").inner_text() == "yes"
    await page.get_by_role("link", name="Fleet", exact=True).click()
    await page.locator('nav a[aria-current="page"]', has_text="Fleet").wait_for()


async def test_nothing_is_missed_between_the_page_and_its_stream(browser: Browser, api: Api, tenant: Tenant) -> None:
    page = await signed_in(browser, api, tenant.key)
    job = await tenant.submit()
    reported = asyncio.Event()

    async def slowly(route: Route) -> None:
        await reported.wait()
        await route.continue_()

    await page.route("**/ui/events*", slowly)
    await page.goto(f"{api.url}/ui/jobs/{job['id']}")
    await tenant.report(job, "Running", stage="synthesize")
    reported.set()

    await page.locator("#job").get_by_text("Running").wait_for()


async def test_who_uses_the_keyboard_keeps_their_place(browser: Browser, api: Api, tenant: Tenant) -> None:
    """What renews itself under a reader must not take the focus away."""
    job = await tenant.submit()
    page = await signed_in(browser, api, tenant.key)
    await page.get_by_role("link", name=job["name"]).focus()

    await tenant.report(job, "Running", stage="synthesize")
    await page.locator(f"#job-{job['id']}").get_by_text("Running").wait_for()
    assert await page.evaluate("document.activeElement.textContent") == job["name"]

    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/ui/jobs/{job['id']}")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "To the content"


async def test_an_api_that_is_away_is_told_and_what_is_shown_stays(browser: Browser, api: Api, tenant: Tenant) -> None:
    job = await tenant.submit()
    page = await signed_in(browser, api, tenant.key)
    notice = page.get_by_text("The server does not answer")
    row = page.locator(f"#job-{job['id']}")

    async def away(route: Route) -> None:
        await route.fulfill(status=503, content_type="application/json", body='{"title": "away"}')

    def renewals(url: str) -> bool:
        return urlsplit(url).path == "/ui"

    await page.route(renewals, away)
    await tenant.report(job, "Running", stage="synthesize")
    await notice.wait_for()
    assert await row.get_by_text("Queued").is_visible(), "the answer of a broken server is not put into the page"
    await shot(page, "away")
    await page.unroute(renewals)

    await row.get_by_text("Running").wait_for()
    await notice.wait_for(state="detached")


async def test_a_stream_that_is_refused_is_taken_up_again(browser: Browser, api: Api, tenant: Tenant) -> None:
    """A browser gives up on a stream that was answered by a proxy's 503; the page does not."""
    job = await tenant.submit()
    page = await signed_in(browser, api, tenant.key)

    async def away(route: Route) -> None:
        await route.fulfill(status=503, body="no upstream")

    await page.route("**/ui/events*", away)
    await page.goto(f"{api.url}/ui/jobs/{job['id']}")
    await page.get_by_text("The server does not answer").wait_for()
    await tenant.report(job, "Running", stage="synthesize")
    await page.unroute("**/ui/events*")

    await page.locator("#job").get_by_text("Running").wait_for()
    await page.get_by_text("The server does not answer").wait_for(state="detached")


async def test_cancel_and_retry_by_keyboard(browser: Browser, api: Api, tenant: Tenant) -> None:
    job = await tenant.submit()
    page = await signed_in(browser, api, tenant.key)
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.goto(f"{api.url}/ui/jobs/{job['id']}")

    await page.get_by_role("button", name="Cancel").focus()
    await page.keyboard.press("Enter")
    async with asyncio.timeout(20):
        while not (await tenant.object_of(job))["spec"].get("cancel"):
            await asyncio.sleep(0.1)
    await tenant.report(job, "Aborted", reason="CancelledByUser")
    await page.get_by_role("button", name="Retry").click()
    await page.get_by_text("A new run was asked for").wait_for()

    assert (await tenant.object_of(job))["spec"]["redrive"] == 1
    await tenant.report(job, "Running", run=1)
    await page.locator("#job").get_by_text("Running").wait_for()


async def test_results_are_shown_from_the_storage(
    browser: Browser, api: Api, tenant: Tenant, store: ObjectStore
) -> None:
    job = await tenant.submit("AvatarRender")
    picture = io.BytesIO()
    Image.new("RGB", (320, 200), "teal").save(picture, "PNG")
    await store.media.write(f"media/{tenant.namespace}/{job['id']}/image-1.png", picture.getvalue(), "image/png")
    await tenant.succeed(job, cost={"actualMicros": 42_000, "currency": "USD"})

    page = await signed_in(browser, api, tenant.key)
    await page.goto(f"{api.url}/ui/jobs/{job['id']}")
    await until(page, "document.querySelector('figure img').naturalWidth === 320")

    assert "0.04 USD" in await page.inner_text("#job")
    await shot(page, "result")


SECONDS_OF = {
    "VoiceJob": ("audio", "speech.mp3", ["-f", "lavfi", "-i", "sine=frequency=440:duration=2", "-b:a", "128k"]),
    "VideoRender": (
        "video",
        "video.mp4",
        ["-f", "lavfi", "-i", "testsrc=size=64x64:duration=2", "-pix_fmt", "yuv420p"],
    ),
}


@pytest.mark.parametrize("kind", SECONDS_OF)
async def test_a_result_is_played_in_the_page(
    browser: Browser, api: Api, tenant: Tenant, store: ObjectStore, tmp_path: Path, kind: str
) -> None:
    element, name, how = SECONDS_OF[kind]
    file = tmp_path / name
    await asyncio.to_thread(subprocess.run, ["ffmpeg", "-v", "error", *how, str(file)], check=True)
    job = await tenant.submit(kind)
    made = output(kind, job["id"], tenant.namespace)
    await store.media.write(made["key"], file.read_bytes(), made["contentType"])
    await tenant.succeed(job)

    page = await signed_in(browser, api, tenant.key)
    await page.goto(f"{api.url}/ui/jobs/{job['id']}")
    player = f"document.querySelector('{element}')"
    await until(page, f"{player}.readyState >= 1")
    await page.evaluate(f"{player}.muted = true, {player}.play()")
    await until(page, f"{player}.currentTime > 0.2")

    assert await page.evaluate(f"Math.round({player}.duration)") == 2
    if kind == "VideoRender":
        await shot(page, "video")


async def test_a_wrong_key_is_told_where_it_was_typed(browser: Browser, api: Api) -> None:
    page = await (await browser.new_context(viewport={"width": 360, "height": 640})).new_page()
    await page.goto(f"{api.url}/ui/fleet")
    await page.wait_for_url("**/ui/sign-in")
    assert await page.evaluate("document.activeElement.id") == "key", "ready to be typed into"

    await page.keyboard.type("rf_wrong")
    await page.keyboard.press("Enter")
    await page.get_by_role("alert").get_by_text("That key is not valid").wait_for()

    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await shot(page, "phone-sign-in")


async def test_it_fits_a_phone(browser: Browser, api: Api, tenant: Tenant) -> None:
    job = await tenant.submit(
        name="a-rather-long-name-for-a-render-somebody-gave-it", text="Mind the step.\n" * 40 + "x" * 200
    )
    page = await signed_in(browser, api, tenant.key, width=360, dark=True)
    await page.locator(f"#job-{job['id']}").wait_for()
    assert await page.locator("td[data-label=Why]").is_hidden(), "a line without a word is no use on a phone"
    await shot(page, "phone")
    await tenant.report(job, "Failed", reason="InputRefused", message="refused-" * 60)
    await page.goto(f"{api.url}/ui/jobs/{job['id']}")
    await page.get_by_text("Nothing was charged.").wait_for()
    assert (await page.inner_text("#job")).count("refused-" * 60) == 1, "what went wrong is told once"

    places = {"/ui": "jobs", f"/ui/jobs/{job['id']}": "job", "/ui/fleet": "fleet", "/ui/jobs/nothing": "error"}
    for path, name in places.items():
        await page.goto(api.url + path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
        await shot(page, f"phone-{name}")


async def test_an_administrator_holds_and_releases_a_provider(browser: Browser, api: Api, cluster: Cluster) -> None:
    providers = Resource.of(RENDER_PROVIDER)
    spec = {"vendor": "did", "baseUrl": "https://api.example", "secretRef": {"name": "did"}}
    await cluster.create(
        providers,
        {"apiVersion": meta.API_VERSION, "kind": "RenderProvider", "metadata": {"name": "page-did"}, "spec": spec},
    )
    await cluster.patch(providers, "page-did", {"status": {"circuit": "Open", "waiting": 7}}, subresource="status")
    page = await signed_in(browser, api, ADMIN_KEY)
    row = page.get_by_role("row").filter(has_text="page-did")
    await row.get_by_text("Open").wait_for()
    told = {"lastError": "503 overloaded", "circuitUntil": "2099-01-01T12:30:00Z"}
    await cluster.patch(providers, "page-did", {"status": told}, subresource="status")
    await row.get_by_text("503 overloaded").wait_for()
    assert "until 01 Jan, 12:30:00 UTC" in await row.inner_text()

    await row.get_by_role("button", name="Hold").focus()
    await page.keyboard.press("Enter")
    await row.get_by_text("Held").wait_for()
    assert await page.evaluate("document.activeElement.textContent") == "Release", "the focus stays on the switch"
    assert (await cluster.get(providers, "page-did"))["spec"]["hold"] is True
    await shot(page, "fleet")
    await row.get_by_role("button", name="Release").click()
    await row.get_by_text("Open").wait_for()
    assert (await cluster.get(providers, "page-did"))["spec"]["hold"] is False


async def sign_in(api: Api, key: str) -> httpx2.AsyncClient:
    client = httpx2.AsyncClient(base_url=api.url, timeout=30)
    answer = await client.post("/ui/sign-in", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303, answer.text
    return client


async def test_a_session_is_sealed_and_ends_with_its_key(api: Api, tenant: Tenant) -> None:
    client = await sign_in(api, tenant.key)
    cookie = client.cookies["renderfleet"]
    assert tenant.key not in cookie
    assert (await client.get("/ui")).status_code == 200

    async with api.client() as admin:
        [key] = (await admin.get(f"/admin/tenants/{tenant.name}/keys")).json()["items"]
        await admin.delete(f"/admin/tenants/{tenant.name}/keys/{key['id']}")
    page = await client.get("/ui")
    fragment = await client.get("/ui", headers={"HX-Request": "true"})
    await client.aclose()

    assert (page.status_code, page.headers["location"]) == (303, "/ui/sign-in")
    assert (fragment.status_code, fragment.headers["hx-redirect"]) == (204, "/ui/sign-in")


async def test_another_site_cannot_act_for_a_visitor(api: Api, tenant: Tenant) -> None:
    job = await tenant.submit()
    client = await sign_in(api, tenant.key)
    place = f"/ui/jobs/{job['id']}/cancel"

    refused = [
        await client.post(place, headers=headers)
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {})
    ]
    allowed = await client.post(place, headers={"Origin": api.url})
    api_by_cookie = await client.get("/jobs")
    await client.aclose()

    assert [one.status_code for one in refused] == [403, 403, 403]
    assert allowed.status_code == 303
    assert api_by_cookie.status_code == 401


async def test_what_a_client_wrote_is_shown_as_text(api: Api, tenant: Tenant, other: Tenant) -> None:
    job = await tenant.submit(text="<script>alert(1)</script>", clientReference="<img src=x>")
    await tenant.report(job, "Failed", message="<b>refused</b>", reason="InputRefused")
    client, stranger = await sign_in(api, tenant.key), await sign_in(api, other.key)

    shown = await client.get(f"/ui/jobs/{job['id']}")
    hidden = await stranger.get(f"/ui/jobs/{job['id']}")
    await client.aclose()
    await stranger.aclose()

    assert "&lt;script&gt;" in shown.text
    assert "<script>alert" not in shown.text
    assert "<b>refused" not in shown.text
    assert (
        "script-src" in shown.headers["content-security-policy"]
        or "default-src 'self'" in shown.headers["content-security-policy"]
    )
    assert hidden.status_code == 404


async def test_refusals_are_pages_as_well(api: Api, tenant: Tenant) -> None:
    client = await sign_in(api, tenant.key)
    absent = f"/ui/jobs/{uuid.uuid4()}"

    page = await client.get(absent)
    unreadable = await client.get("/ui/jobs/not-an-id")
    fragment = await client.get(absent, headers={"HX-Request": "true"})
    forbidden = await client.post(f"{absent}/cancel", headers={"Sec-Fetch-Site": "cross-site"})
    await client.aclose()

    assert [one.status_code for one in (page, unreadable, fragment, forbidden)] == [404, 404, 404, 403]
    for one in (page, unreadable, forbidden):
        assert one.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in one.headers["content-security-policy"]
        assert 'href="/ui"' in one.text
    assert "<h1>Not found</h1>" in page.text
    assert fragment.headers["content-type"].startswith("text/plain")


async def test_what_a_render_is_made_of_is_told_in_words(api: Api, tenant: Tenant) -> None:
    job = await tenant.submit("VideoRender", avatarKey=None, avatarRef={"name": "guide", "index": 2})
    client = await sign_in(api, tenant.key)

    page = await client.get(f"/ui/jobs/{job['id']}")
    await client.aclose()

    assert "name guide, index 2" in page.text


async def test_the_bare_address_leads_to_the_page(api: Api) -> None:
    async with httpx2.AsyncClient(base_url=api.url) as client:
        bare = await client.get("/")
        wrong = await client.post("/ui/sign-in", data={"key": "rf_wrong"}, headers={"Sec-Fetch-Site": "same-origin"})

    assert (bare.status_code, bare.headers["location"]) == (307, "/ui")
    assert (wrong.status_code, "not valid" in wrong.text) == (401, True)
    assert "set-cookie" not in wrong.headers


def test_the_script_that_others_wrote_is_unchanged() -> None:
    file = Path(str(package_files.files("renderfleet_api.pages") / "static" / "htmx.min.js"))

    _, _, script = file.read_bytes().partition(b"\n")

    assert hashlib.sha256(script).hexdigest() == "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
