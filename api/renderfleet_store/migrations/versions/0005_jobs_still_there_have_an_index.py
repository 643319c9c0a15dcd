"""Jobs whose object is still there have an index of their own

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_jobs_present",
        "jobs",
        ["uid"],
        postgresql_where=sa.text("deleted_at IS NULL"),
        if_not_exists=True,  # for a while, 0003 made it
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_present", table_name="jobs")
