"""The OpenAI side: images, responses, chat completions, models."""
