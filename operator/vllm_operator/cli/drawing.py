"""What is drawn as an SVG document of its own."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

NAMESPACE: Final = "http://www.w3.org/2000/svg"


class Drawing:
    """A white sheet of so many pixels; ``title`` and ``description`` are read out by a reader."""

    def __init__(
        self, size: tuple[int, int], title: str, description: str, *, font_size: int
    ) -> None:
        width, height = size
        self._root = ET.Element(
            "svg",
            {
                "xmlns": NAMESPACE,
                "viewBox": f"0 0 {width} {height}",
                "width": str(width),
                "height": str(height),
                "font-family": "sans-serif",
                "font-size": str(font_size),
                "role": "img",
            },
        )
        self.add("title", title)
        self.add("desc", description)
        self.add("rect", width=width, height=height, fill="white")

    def add(self, tag: str, text: str = "", /, **attributes: object) -> None:
        """Draw an element; an attribute's ``_`` stands for ``-``."""
        named = {key.replace("_", "-"): str(value) for key, value in attributes.items()}
        ET.SubElement(self._root, tag, named).text = text or None

    def document(self) -> str:
        """The whole as XML."""
        ET.indent(self._root)
        return ET.tostring(self._root, encoding="unicode", xml_declaration=True) + "\n"
