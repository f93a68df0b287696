"""A live map of scenes on this machine: imagery, predictions computed where one looks, polygons."""
