"""From a live server's metrics to its knobs. Pure: samples, plans and the time are passed in.

``intervals`` and ``quality`` read samples, ``curve`` fits how long steps take, ``forecast`` says
what other knobs would do, ``diagnosis`` what bounds the server, ``choice`` which knobs to try,
``judge`` whether a trial keeps its promise, ``machine`` in which state tuning is and what should
therefore exist, ``ledger`` what is told of it.
"""
