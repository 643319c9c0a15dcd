"""Pictures, speech and talking videos, made here with Pillow, espeak-ng and ffmpeg. No network, no model."""
