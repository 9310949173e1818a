"""The Processing algorithms: adapters that turn parameters into jobs and events into feedback."""
