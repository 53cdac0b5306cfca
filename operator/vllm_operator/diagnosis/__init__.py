"""What a server does, what bounds it, what would help, and what it lacks for production. Pure.

``figures`` are what its pods did in a window; ``look`` adds what tuning says of the same samples:
what bounds it, and which setting would help. ``remedies`` says in words what can be changed and
what that costs. ``checks`` is the list before production: each check is a function of the plan
(``planned``) or of what was seen of the running server (``running``), and ``checklist`` asks them
all. No second diagnosis is made here: ``tuning`` makes it.
"""
