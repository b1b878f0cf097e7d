"""Layers of a configuration, as short as a test wants them."""


def layers(options: dict) -> list[dict]:
    """Return the layers that options of nobody in particular make."""
    return [{"option": [option], "value": value} for option, value in options.items()]
