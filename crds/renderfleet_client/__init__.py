"""Thin asynchronous access to Kubernetes objects: plain dicts in, plain dicts out, errors by what they mean."""

from .cluster import Cluster, Listing, WatchEvent
from .login import Login, load_login
from .resources import Resource

__all__ = ["Cluster", "Listing", "Login", "Resource", "WatchEvent", "load_login"]
