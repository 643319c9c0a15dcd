"""The door: REST in, custom resources out; what comes back is read from PostgreSQL."""
