"""What labels say: their classes, polygons and masks, read alike wherever they are used.

::

    classes.py     ClassTable: from names, ids and values to class ids
    polygons.py    the polygons of a vector file, placed on any grid        masks.py   a raster of classes
    footprints.py  polygons burnt into pixels                               places.py  where things lie

How a word names a class, in attributes, options and recipes alike: blanks around it do not count; the
name of a class is tried as it is written, then whatever the case, then the id of a class, then
``background`` (or 0) and ``ignore`` (nothing is known there). No value, and a text of blanks only, is
called ``null`` and names no class.
"""
