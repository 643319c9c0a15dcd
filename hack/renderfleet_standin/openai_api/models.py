"""Which models the OpenAI side has, what each can do, and when each is shut down."""

from dataclasses import dataclass
from datetime import date

DALL_E_END = date(2026, 5, 12)
GPT_IMAGE_1_END = date(2026, 10, 23)
SMALL_IMAGE_END = date(2026, 12, 1)
GPT_5_END = date(2026, 12, 11)


@dataclass(frozen=True)
class ImageModel:
    """One image model."""

    name: str
    shutdown: date | None = None
    free_sizes: bool = False
    """Takes any WxH within the rules, not only the three standard sizes."""
    fine_quality: bool = False
    """Also knows quality xhigh and max."""
    input_fidelity: bool = False
    """Takes `input_fidelity` in edits."""


@dataclass(frozen=True)
class TextModel:
    """One text model."""

    name: str
    shutdown: date | None = None


IMAGE_MODELS: dict[str, ImageModel] = {
    model.name: model
    for model in [
        ImageModel("gpt-image-2.6-sunburst", free_sizes=True, fine_quality=True),
        ImageModel("gpt-image-2.6-flare", free_sizes=True, fine_quality=True),
        ImageModel("gpt-image-2.5-sunburst", free_sizes=True, fine_quality=True),
        ImageModel("gpt-image-2.5-sunburst-2026-09-08", free_sizes=True, fine_quality=True),
        ImageModel("gpt-image-2.5-flare", free_sizes=True, fine_quality=True),
        ImageModel("gpt-image-2.5-flare-2026-09-08", free_sizes=True, fine_quality=True),
        ImageModel("gpt-image-2", free_sizes=True),
        ImageModel("gpt-image-2-2026-04-21", free_sizes=True),
        ImageModel("gpt-image-1.5", shutdown=SMALL_IMAGE_END, input_fidelity=True),
        ImageModel("gpt-image-1-mini", shutdown=SMALL_IMAGE_END, input_fidelity=True),
        ImageModel("chatgpt-image-latest", shutdown=SMALL_IMAGE_END, input_fidelity=True),
        ImageModel("gpt-image-1", shutdown=GPT_IMAGE_1_END, input_fidelity=True),
        ImageModel("dall-e-3", shutdown=DALL_E_END),
        ImageModel("dall-e-2", shutdown=DALL_E_END),
    ]
}

TEXT_MODELS: dict[str, TextModel] = {
    model.name: model
    for model in [
        TextModel("gpt-6-luna"),
        TextModel("gpt-5", GPT_5_END),
        TextModel("gpt-5-mini", GPT_5_END),
        TextModel("gpt-5-nano", GPT_5_END),
    ]
}


def is_gone(model: ImageModel | TextModel, today: date) -> bool:
    """Whether the model is shut down on that day."""
    return model.shutdown is not None and today >= model.shutdown
