"""A key that was rotated is known as such

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("retired_at", sa.TIMESTAMP(timezone=True)))


def downgrade() -> None:
    op.drop_column("api_keys", "retired_at")
