"""Rows and media: PostgreSQL tables with their queries, and signed access to the bucket. Knows nothing of HTTP or kopf."""
