"""The agent: everything that steers. Requests themselves never come here, see `ext/relay`."""
