"""Webhooks: signed as Standard Webhooks says, delivered by a process of their own (`python -m renderfleet_api.webhooks`)."""
