"""The hands: one short process per stage attempt. It knows its Task, its vendor and object storage, and nothing else."""
