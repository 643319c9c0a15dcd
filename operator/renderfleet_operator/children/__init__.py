"""The objects we make, as dicts. Pure."""
