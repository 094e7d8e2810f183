"""The failure of a rendering."""


class RenderingError(Exception):
    """There is no configuration for these options."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        """For the user: what is wrong, and what to do; it names no path of the host."""
        self.detail = detail
        """For the administrator only."""
