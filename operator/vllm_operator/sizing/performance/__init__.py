"""How fast a server is: a roofline of every matrix, and continuous batching on top of it.

``work`` says what a model asks of each rank (with ``attention`` and ``kernels``), ``step`` how long
a step of it takes on a GPU, ``multipliers`` how much longer its parts take here, ``server`` what
comes of it under a load, ``intervals`` how far that may be off; ``estimate`` is all in one call.
What hardware reaches of its datasheet stands in ``coefficients.csv``, fitted by
``tools/fitting/fit_performance.py``. Times are in seconds, sizes in bytes.
"""
