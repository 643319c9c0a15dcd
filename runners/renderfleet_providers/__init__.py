"""The paid vendors: one file each, behind the few questions of `ports.py`. Importing this loads none of them."""
