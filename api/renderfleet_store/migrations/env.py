"""How alembic runs here: always online, over the connection that `migrate` hands in, in one transaction."""

from alembic import context

from renderfleet_store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=False,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
