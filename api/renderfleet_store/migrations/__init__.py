"""Alembic's place; run by `python -m renderfleet_store migrate`."""
