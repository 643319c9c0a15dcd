"""Everything about the stand-in that may be chosen from outside, read once from RENDERFLEET_STANDIN_*."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

CommaList = Annotated[tuple[str, ...], NoDecode]
"""Several values in one environment variable, separated by commas."""

Tier = Literal["free", "starter", "creator", "pro", "scale", "business"]


class StandinSettings(BaseSettings):
    """How this stand-in behaves; every field is RENDERFLEET_STANDIN_<NAME> in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="RENDERFLEET_STANDIN_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8099
    """Port to listen on."""
    public_base_url: str | None = None
    """Base of the links this server hands out (videos, previews); unset means whatever Host the caller used."""
    tls_cert: Path | None = None
    """PEM certificate; together with the key it turns the one port into https."""
    tls_key: Path | None = None
    """PEM private key of the certificate."""
    data: Path | None = None
    """Where ledger, talks and media are kept, so that they survive a restart; unset means a temporary folder."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Pictures, speeches and videos made at once; the rest wait their turn."""
    today: date | None = None
    """Pretended date for model retirement; unset means the real one."""

    strict: bool = True
    """Take only the URLs D-ID takes (https and s3). False also allows http, for loopback and clusters without TLS."""
    fetch_ca_file: Path | None = None
    """Extra CA certificates trusted when fetching pictures and audio by https and when calling webhooks."""
    fetch_timeout_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Longest wait for a picture or an audio that D-ID is told to fetch."""

    openai_keys: CommaList = ("sk-standin",)
    """Bearer keys that the OpenAI side takes."""
    openai_images_per_minute: Annotated[int, Field(ge=0)] = 0
    """IPM of the account, over all image models; 0 means no limit."""
    openai_requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """RPM of the account; 0 means no limit."""
    openai_tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    """TPM of the account, input and output; 0 means no limit."""
    openai_retired_model_status: Literal[400, 404] = 404
    """HTTP status for a retired model. The vendor's own is unconfirmed, so both exist."""

    elevenlabs_keys: CommaList = ("el-standin",)
    """xi-api-key values that the ElevenLabs side takes."""
    elevenlabs_tier: Tier = "creator"
    """Plan of the account: decides how many calls may run at once and which formats are open."""
    elevenlabs_queue_seconds: Annotated[float, Field(ge=0)] = 0.05
    """An excess call waits this long for a free place before it is refused."""
    elevenlabs_character_limit: Annotated[int, Field(ge=0)] = 10_000_000
    """Credits of the billing period; beyond them calls are refused."""
    elevenlabs_quota_answer: Literal["401", "401-legacy", "402"] = "401"
    """Shape of the "out of credits" answer: accounts differ, so all exist."""
    elevenlabs_requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Speech calls per minute; 0 means no limit."""

    did_keys: CommaList = ("did-user:did-pass",)
    """API_USERNAME:API_PASSWORD pairs that the D-ID side takes, as they are or base64-encoded."""
    did_credits: Annotated[int, Field(ge=0)] = 100_000
    """Credits of the account."""
    did_seconds_per_credit: Annotated[float, Field(gt=0)] = 15.0
    """Length of video that one credit buys, each begun one counted. The vendor's depends on the plan."""
    did_creates_per_second: Annotated[int, Field(ge=0)] = 0
    """POST /talks per second; 0 means no limit."""
    did_talks_in_flight: Annotated[int, Field(ge=0)] = 0
    """Unfinished talks at once; 0 means no limit."""
    did_may_stitch: bool = True
    """Whether the plan allows `config.stitch`; if not, 403 PermissionError."""
    did_result_seconds: Annotated[int, Field(ge=1)] = 86_400
    """Life of a result_url."""
    did_resign_on_get: bool = False
    """Sign result_url anew at each GET. Whether the vendor does is unconfirmed, so both exist."""
    did_callback_attempts: Annotated[int, Field(ge=1, le=10)] = 1
    """Calls of a webhook that does not answer 2xx. The vendor publishes no retry policy."""
    talk_seconds: Annotated[float, Field(ge=0)] = 3.0
    """Shortest time from a talk's creation to its end."""

    @field_validator("openai_keys", "elevenlabs_keys", "did_keys", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
