"""The ElevenLabs side: text to speech, voices, models, subscription, history."""
