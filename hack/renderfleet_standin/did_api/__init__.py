"""The D-ID side: talks, images, audios, credits, voices, and the storage that serves finished videos."""
