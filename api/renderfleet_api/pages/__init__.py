"""The page for people: server-rendered, the same data and the same key as the API, no build step."""
