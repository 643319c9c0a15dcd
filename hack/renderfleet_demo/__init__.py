"""The demo: a cluster with the whole fleet in it, and a talking video out of it."""
