"""What training sees: samples drawn from scenes and chips on the fly, and ground that it never sees.

::

    spec.py      what a recipe says about data: DataSpec, ValidationSpec, Draws (pydantic, light to import)
    read.py      read_data(data, validation, draws, base) -> Split       every error before the first epoch
    ground.py    Ground, mirrored windows; PictureGround, in memory; SceneGround, windows of a file
    sampler.py   Sampler(grounds, draws).draw(rng) -> Sample;  validation_tiles(...) -> Iterator[Tile]
    chips.py     chips of an index or a folder     holdout.py  places, scenes and blocks

A `Sample` is pixels, uint8, (bands, rows, cols), and labels, uint8, (rows, cols): class ids, 0 for
background, `geoseg.labels.classes.IGNORE` = 255 where nothing is known. Two frames are used
throughout: *native pixels* of a ground (col, row; the file's own), and the *grid*: the same ground at
a resolution in metres, as in prediction (``GeoBox.resized``). Scenes and pictures are resampled by the
operations that prediction uses. All chance comes from the generator that is handed to `Sampler.draw`;
every object here is picklable and opens files when it reads.
"""
