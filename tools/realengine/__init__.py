"""The real vLLM, in its CPU build, for tests: installed once for each user, started and asked."""
