"""REST interface and log websocket, described by ``rest-api.yml``: parse, ask the service, answer."""
