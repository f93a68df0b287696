"""A QGIS style for a layer of polygons: one colour a class."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from geoseg.values import ClassInfo

FILL_OPACITY = 90
"""Of 255: the imagery stays visible under the polygons."""


def layer_style(classes: Sequence[ClassInfo], attribute: str = "class_name") -> str:
    """Return a QML document: a single symbol for one class, else categories by an attribute.

    Parameters
    ----------
    classes : sequence of ClassInfo
    attribute : str
        Holds the names of the classes.
    """
    document = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    if len(classes) == 1:
        renderer = ET.SubElement(document, "renderer-v2", type="singleSymbol", enableorderby="0")
    else:
        renderer = ET.SubElement(
            document, "renderer-v2", type="categorizedSymbol", attr=attribute, enableorderby="0"
        )
        categories = ET.SubElement(renderer, "categories")
        for number, info in enumerate(classes):
            ET.SubElement(
                categories,
                "category",
                type="string",
                value=info.name,
                label=info.name,
                symbol=str(number),
                render="true",
            )
    symbols = ET.SubElement(renderer, "symbols")
    for number, info in enumerate(classes):
        _add_symbol(symbols, str(number), info.color)
    ET.SubElement(document, "layerGeometryType").text = "2"
    ET.indent(document)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(
        document, encoding="unicode"
    )


def _add_symbol(symbols: ET.Element, name: str, color: tuple[int, int, int]) -> None:
    symbol = ET.SubElement(symbols, "symbol", name=name, type="fill", alpha="1", clip_to_extent="1")
    layer = ET.SubElement(
        symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
    )
    options = ET.SubElement(layer, "Option", type="Map")
    red, green, blue = color
    values = {
        "color": f"{red},{green},{blue},{FILL_OPACITY}",
        "style": "solid",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.4",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    for key, value in values.items():
        ET.SubElement(options, "Option", name=key, value=value, type="QString")
