"""The failure of a rendering."""


class RenderingError(Exception):
    """There is no configuration for these options.

    `text` is for the user: what is wrong, and what to do; it names no path of the host. `detail` is for the
    administrator only.
    """

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.detail = detail
