"""HTTP and nothing else: each file one resource, each function a few lines."""
