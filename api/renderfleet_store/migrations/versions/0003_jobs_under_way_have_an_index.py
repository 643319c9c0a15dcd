"""Jobs under way have an index of their own

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_jobs_under_way",
        "jobs",
        ["namespace", "phase"],
        postgresql_where=sa.text("finished_at IS NULL AND deleted_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_under_way", table_name="jobs")
