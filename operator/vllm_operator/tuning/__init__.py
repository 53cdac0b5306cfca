"""From a live server's metrics to its knobs. Pure: samples, plans and the time are passed in.

``samples`` become ``intervals``, whose ``quality`` says whether anything is learned; ``load`` says
what is asked of the server, ``curve`` fits how long steps take, ``forecast`` says what other knobs
would do (by ``states`` of an engine and a ``chain`` of them), ``diagnosis`` what bounds the server,
``choice`` which knobs to try (of ``candidates``, by a ``rating``), ``judge`` whether a trial keeps
its promise, ``machine`` in which state tuning is and what should therefore exist, ``ledger`` what
is told of it. ``tuner`` does all of it for one server: it keeps what was ``seen``, waits for the
``agreement`` of two looks, and is told the ``scene`` of a visit.
"""
