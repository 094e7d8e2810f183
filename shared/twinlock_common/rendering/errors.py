"""How rendering fails."""


class RenderingError(Exception):
    """There is no configuration for these options.

    `text` is for the user: what is wrong, what to do; no path of the host. `detail` is for the administrator alone.
    """

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.detail = detail
